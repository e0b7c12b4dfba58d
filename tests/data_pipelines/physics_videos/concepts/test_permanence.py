"""Permanence."""

import numpy as np

from data_pipelines.physics_videos.concepts.permanence import matched_set


def test_one_thing_vanishes_and_one_comes_from_nowhere():
    matched = matched_set(np.random.default_rng(0), num_frames=32)
    is_there, is_absent = (np.isfinite(story[:, 0, 0]) for story in matched.possible)
    assert is_there.all()
    assert not is_absent.any()
    vanishes, appears = (np.isfinite(story[:, 0, 0]) for story in matched.impossible)
    assert vanishes.tolist() == [frame < matched.cut for frame in range(32)]
    assert appears.tolist() == [frame >= matched.cut for frame in range(32)]


def test_it_changes_where_the_screen_hides_all_of_it():
    for seed in range(20):
        matched = matched_set(np.random.default_rng(seed), num_frames=32)
        x, y = matched.possible[0][matched.cut, 0]
        radius, screen = matched.scene.looks[0].radius, matched.scene.screens[0]
        assert screen.left < x - radius < x + radius < screen.right
        assert screen.top < y - radius
        assert y + radius <= screen.bottom + 1e-9
