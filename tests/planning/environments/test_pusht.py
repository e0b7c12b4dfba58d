"""PushT: what counts as success, what moves the T, and what can vary."""

import math

import numpy as np
import pytest

from planning.environments import make_environment


def made(**options):
    try:
        return make_environment("pusht", **options)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def no_action(environment):
    return np.zeros(environment.action_spec.dim, dtype=np.float32)


def reset_between_different_states(environment, seed=1):
    generator = np.random.default_rng(seed)
    start, goal = environment.sample_state(generator), environment.sample_state(generator)
    return environment.reset(generator, start=start, goal=goal)


@pytest.mark.parametrize("image_size", [64, 96, 224])
def test_pusht_draws_frames_of_the_asked_size(image_size):
    environment = made(image_size=image_size)
    step = environment.reset(np.random.default_rng(0))
    assert step.frame.shape == environment.goal.frame.shape == (image_size, image_size, 3)


@pytest.mark.parametrize(
    ("offset", "is_success"),
    [
        ((19.9, 0, 0, 0, 0), True),
        ((20.1, 0, 0, 0, 0), False),
        ((12, 0, 0, 12, 0), True),  # 17 pixels in all
        ((12, 12, 12, 12, 0), False),  # 24 pixels in all
        ((0, 0, 0, 0, math.radians(19.9)), True),
        ((0, 0, 0, 0, math.radians(20.1)), False),
        ((0, 0, 0, 0, math.radians(360 - 19.9)), True),
        ((19.9, 0, 0, 0, math.radians(19.9)), True),  # two tests, not a sum
    ],
)
def test_pusht_succeeds_within_20_pixels_and_20_degrees(offset, is_success):
    environment = made()
    goal = np.array([100.0, 120.0, 250.0, 260.0, 0.05])
    step = environment.reset(np.random.default_rng(0), start=goal + offset, goal=goal)
    assert step.is_success == is_success


def test_pusht_moves_the_t_only_by_touching_it():
    environment = made()
    start = np.array([256.0, 60.0, 256.0, 200.0, 0.0])  # the disc above the bar of an upright T
    goal = np.array([60.0, 450.0, 256.0, 200.0, 0.0])
    step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
    while step.state[1] < 150:  # the radius is 15: still more than 30 pixels of air
        step = environment.step(np.array([0.0, 40.0]))
        assert np.array_equal(step.state[2:], start[2:].astype(np.float32))
    for _ in range(15):
        step = environment.step(np.array([0.0, 40.0]))
    assert step.state[3] > 230  # pushed down


def test_pusht_shows_an_overlapping_state_as_given_and_pushes_the_t_out_in_the_first_step():
    environment = made()
    overlapping = np.array([256.0, 220.0, 256.0, 200.0, 0.0])  # the disc on the bar of the T
    assert not environment.is_free(overlapping)
    goal = np.array([60.0, 60.0, 256.0, 200.0, 0.0])
    step = environment.reset(np.random.default_rng(0), start=overlapping, goal=goal)
    assert np.array_equal(step.state, overlapping.astype(np.float32))
    step = environment.step(no_action(environment))
    assert np.array_equal(step.state[:2], overlapping[:2].astype(np.float32))
    assert np.abs(step.state[2:4] - overlapping[2:4]).max() > 1


def test_pusht_draws_starts_in_which_nothing_overlaps():
    environment = made()
    generator = np.random.default_rng(0)
    assert all(environment.is_free(environment.sample_state(generator)) for _ in range(50))
    assert not environment.is_free(np.array([256.0, 450.0, 30.0, 200.0, 0.0]))  # T in the wall


def test_pusht_keeps_the_disc_on_the_canvas():
    environment = made()
    for direction in ((-100, -100), (100, 100)):
        reset_between_different_states(environment)
        for _ in range(60):
            step = environment.step(np.array(direction))
            assert ((step.state[:2] >= 0) & (step.state[:2] <= 512)).all()
