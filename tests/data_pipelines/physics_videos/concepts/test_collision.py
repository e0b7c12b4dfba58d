"""Collision."""

import numpy as np

from data_pipelines.physics_videos.concepts.collision import matched_set


def of_variant(variant):
    for seed in range(60):
        matched = matched_set(np.random.default_rng(seed), num_frames=32)
        if matched.variant == variant:
            return matched
    raise AssertionError(variant)


def momentum(story):
    """Sum of the steps to the right of both things, frame by frame."""
    return np.diff(story[:, :, 0], axis=0).sum(1)


def test_possible_collisions_conserve_momentum():
    for variant in ("passes_through", "no_transfer"):
        for story in of_variant(variant).possible:
            np.testing.assert_allclose(momentum(story), momentum(story)[0], atol=1e-6)


def test_without_transfer_the_momentum_turns_round_and_the_thing_that_was_hit_lies_still():
    matched = of_variant("no_transfer")
    story, cut = matched.impossible[0], matched.cut
    np.testing.assert_allclose(momentum(story)[cut:], -momentum(story)[0], atol=1e-6)
    np.testing.assert_allclose(story[:, 1, 0], story[0, 1, 0], atol=3e-3)


def test_things_that_pass_through_each_other_change_sides():
    matched = of_variant("passes_through")
    for story in matched.possible:
        is_left = story[:, 0, 0] < story[:, 1, 0]
        assert is_left.all() or not is_left.any()
    for story in matched.impossible:
        is_left = story[:, 0, 0] < story[:, 1, 0]
        assert is_left[0] != is_left[-1]
