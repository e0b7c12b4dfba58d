"""Nothing impossible happens in free play."""

import numpy as np

from data_pipelines.physics_videos.free_play import free_play


def test_things_never_jump_overlap_or_sink_into_the_floor():
    seen_things = set()
    for seed in range(25):
        story = free_play(np.random.default_rng(seed), num_frames=20)
        looks = story.scene.looks
        seen_things.add(len(looks))
        assert story.positions.shape == (20, len(looks), 2)
        assert np.abs(np.diff(story.positions, axis=0)).max() < 0.25
        for number, look in enumerate(looks):
            floor = story.scene.blocks[0].top
            assert (story.positions[:, number, 1] + look.radius).max() < floor + 0.03
        if len(looks) == 2:
            apart = np.abs(story.positions[:, 0] - story.positions[:, 1])
            distance = np.maximum(apart.max(1), np.hypot(*apart.T) / np.sqrt(2))
            assert distance.min() > 0.6 * (looks[0].radius + looks[1].radius)
    assert seen_things == {1, 2}


def test_the_same_seed_plays_the_same():
    first, second = (free_play(np.random.default_rng(3), num_frames=16) for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.scene == second.scene
