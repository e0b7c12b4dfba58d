"""Solidity."""

import numpy as np

from data_pipelines.physics_videos.concepts.solidity import matched_set


def test_possible_things_stay_on_their_side_and_impossible_ones_pass():
    seen = set()
    for seed in range(12):
        matched = matched_set(np.random.default_rng(seed), num_frames=32)
        seen.add(matched.variant)
        axis = 0 if matched.variant == "wall" else 1
        barrier = matched.scene.blocks[1]
        middle = (barrier[axis] + barrier[axis + 2]) / 2
        for possible, impossible in zip(matched.possible, matched.impossible, strict=True):
            is_beyond = possible[:, 0, axis] > middle
            assert is_beyond.all() or not is_beyond.any()
            is_beyond = impossible[:, 0, axis] > middle
            assert (is_beyond[: matched.cut] == is_beyond[0]).all()
            assert (is_beyond[matched.cut :] != is_beyond[0]).all()
    assert seen == {"wall", "shelf"}
