"""Continuity."""

import numpy as np

from data_pipelines.physics_videos.concepts.continuity import matched_set


def test_a_thing_jumps_from_screen_to_screen_and_is_otherwise_as_fast_as_ever():
    for seed in range(10):
        matched = matched_set(np.random.default_rng(seed), num_frames=32)
        left, right = matched.scene.screens
        between = (right.left + right.right - left.left - left.right) / 2
        for possible, impossible in zip(matched.possible, matched.impossible, strict=True):
            steps = np.diff(possible[:, 0, 0])
            np.testing.assert_allclose(steps, steps[0], atol=1e-6)
            jumps = np.diff(impossible[:, 0, 0]) - steps[0]
            others = np.delete(jumps, matched.cut - 1)
            np.testing.assert_allclose(others, 0, atol=1e-6)
            np.testing.assert_allclose(abs(jumps[matched.cut - 1]), between, atol=1e-6)
