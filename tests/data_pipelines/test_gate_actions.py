import itertools

import numpy as np
import pytest

from data_pipelines.gate_actions import (
    GATE_DISTANCE,
    NOUNS,
    SCATTER,
    SEEN_UNTIL_SECONDS,
    VERBS,
    anticipate_from_positions,
    draw_action,
    gate_places,
)

SEEN = np.arange(-16, -8) / 8  # the moments of 8 frames a second, from the rest to 1 s before
EVERY = list(itertools.product(VERBS, range(len(NOUNS))))


def drawn(verb, gate, seed=0):
    return draw_action(np.random.default_rng(seed), verb, gate)


@pytest.mark.parametrize(("verb", "gate"), EVERY)
def test_the_oracle_is_right_of_every_action(verb, gate):
    for seed in range(20):
        positions = drawn(verb, gate, seed).positions(SEEN)
        answer = anticipate_from_positions(positions, np.arange(8))
        assert answer == (VERBS.index(verb), gate)


def test_the_last_frame_seen_is_the_same_whatever_comes():
    last = {tuple(drawn(verb, gate).positions(SEEN)[-1].round(9)) for verb, gate in EVERY}
    assert SEEN[-1] == -SEEN_UNTIL_SECONDS and len(last) == 1
    assert np.hypot(*(np.array(*last) - 0.5)) <= SCATTER


def test_the_frames_before_it_are_not():
    before = {tuple(drawn(verb, gate).positions(SEEN)[-4].round(6)) for verb, gate in EVERY}
    assert len(before) == len(EVERY)


@pytest.mark.parametrize(("verb", "gate"), EVERY)
def test_the_ball_is_at_its_gate_when_the_action_starts(verb, gate):
    position = drawn(verb, gate).positions(np.zeros(1))[0]
    np.testing.assert_allclose(position, gate_places()[gate], atol=1e-12)
    assert np.hypot(*(gate_places()[gate] - 0.5)) == pytest.approx(GATE_DISTANCE)


def test_the_pace_tells_the_verb():
    def speeds(verb):
        return np.hypot(
            *np.diff(drawn(verb, 0).positions(np.array([-2, -1.75, -0.25, 0])), axis=0).T
        )

    assert speeds("enters")[2] > 2 * speeds("enters")[0]
    assert speeds("stops")[2] < speeds("stops")[0] / 1.5
    assert speeds("bounces")[2] == pytest.approx(speeds("bounces")[0], rel=0.4)


def test_actions_are_what_their_verbs_say():
    ways = {}
    for verb in VERBS:
        start, stop = drawn(verb, 0).positions(np.array([0.0, 1.0]))
        ways[verb] = stop - start  # gate 0 lies to the right
    assert ways["enters"][0] > 0.3 and ways["bounces"][0] < -0.3
    np.testing.assert_allclose(ways["stops"], 0)
    assert abs(ways["turns"][1]) > 0.3


def test_the_ball_rests_before_it_moves():
    positions = drawn("stops", 3).positions(np.array([-3.0, -2.5, -2.0, -1.9]))
    np.testing.assert_allclose(positions[:3], positions[[0] * 3])
    assert not np.allclose(positions[3], positions[0], atol=1e-3)


@pytest.mark.parametrize(("verb", "gate"), EVERY)
def test_some_of_the_ball_is_in_sight_until_the_action(verb, gate):
    for seed in range(10):
        positions = drawn(verb, gate, seed).positions(np.linspace(-3, 0, 49))
        assert -0.05 < positions.min() and positions.max() < 1.05  # its radius is 0.06
