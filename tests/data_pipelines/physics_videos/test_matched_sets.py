"""Halves are exchanged; what comes before stays."""

import numpy as np
import pytest

from data_pipelines.physics_videos.matched_sets import crossed, first_difference, render_pairs
from data_pipelines.physics_videos.scenes import Look, Scene

SCENE = Scene(((255, 255, 255), (255, 255, 255)), (Look(0.1, "disc", (255, 0, 0)),))


def stories(num_frames=8):
    """To the right and to the left through one point at frame 4."""
    steps = (np.arange(num_frames) - 4) * 0.1
    first = np.stack((0.5 + steps, np.full(num_frames, 0.5)), axis=-1)[:, None]
    second = np.stack((0.5 - steps, np.full(num_frames, 0.5)), axis=-1)[:, None]
    return first, second


def test_crossed_stories_go_on_as_the_other_one():
    first, second = stories()
    matched = crossed("c", "v", SCENE, first, second, cut=4)
    assert matched.impossible[0][:, 0, 0].tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2]
    )
    np.testing.assert_array_equal(matched.impossible[1][:4], second[:4])
    np.testing.assert_array_equal(matched.impossible[1][4:], first[4:])


def test_the_violation_is_where_the_pictures_first_differ_not_where_the_halves_meet():
    pairs = render_pairs(crossed("c", "v", SCENE, *stories(), cut=4), size=32)
    for pair in pairs:
        assert pair.violation_frame == 5  # at 4 both are at the same place
        np.testing.assert_array_equal(pair.possible[:5], pair.impossible[:5])
        assert (pair.possible[5] != pair.impossible[5]).any()


def test_videos_that_never_differ_are_refused():
    first, _ = stories()
    with pytest.raises(ValueError, match=r"c \(v\): .* must first differ from frame 4 to 7, got 8"):
        render_pairs(crossed("c", "v", SCENE, first, first, cut=4), size=32)


def test_first_difference_counts_frames():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    other = frames.copy()
    assert first_difference(frames, other) == 3
    other[1, 1, 1, 1] = 1
    assert first_difference(frames, other) == 1
