"""Gravity."""

import numpy as np

from data_pipelines.physics_videos.concepts.gravity import matched_set
from data_pipelines.physics_videos.engine import FRAMES_PER_SECOND, GRAVITY


def of_variant(variant):
    for seed in range(60):
        matched = matched_set(np.random.default_rng(seed), num_frames=32)
        if matched.variant == variant:
            return matched
    raise AssertionError(variant)


def fall(story, frame):
    """How far a thing falls from one frame to the next; downwards is positive."""
    return story[frame + 1, 0, 1] - story[frame, 0, 1]


def test_a_falling_thing_turns_round_in_the_air():
    matched = of_variant("falls_up")
    falls, cut = matched.impossible[1], matched.cut
    assert fall(falls, cut - 2) > 0
    assert fall(falls, cut) < 0


def test_a_slowly_falling_thing_is_fast_at_once():
    matched = of_variant("speeds_up")
    slow, cut = matched.impossible[0], matched.cut
    gain = fall(slow, cut) - fall(slow, cut - 1)
    assert gain > 3 * GRAVITY / FRAMES_PER_SECOND**2  # more than three times what gravity gives
    possible = matched.possible[0]
    expected = GRAVITY / FRAMES_PER_SECOND**2
    assert np.isclose(fall(possible, cut) - fall(possible, cut - 1), expected, atol=2e-3)


def test_a_hovering_thing_stays_where_it_was_highest():
    matched = of_variant("hovers")
    for possible, impossible in zip(matched.possible, matched.impossible, strict=True):
        assert (impossible[matched.cut :] == impossible[matched.cut]).all()
        assert possible[matched.cut - 5 : matched.cut + 5, 0, 1].argmin() == 5
        assert possible[matched.cut + 5, 0, 1] > possible[matched.cut, 0, 1] + 0.05
