"""Looks are random, but never of one colour with what hides them."""

import numpy as np

from data_pipelines.physics_videos.scenes import (
    centred,
    draw_scene,
    either_sign,
    floor_at,
)


def test_things_and_screens_have_colours_far_apart():
    for seed in range(30):
        scene = draw_scene(np.random.default_rng(seed), radii=(0.1, 0.1))
        colours = np.array([*(look.colour for look in scene.looks), scene.screen_colour])
        apart = np.abs(colours[:, None] - colours[None]).sum(-1)[np.triu_indices(3, 1)]
        assert apart.min() > 40


def test_the_same_seed_draws_the_same_scene_and_another_one_another():
    scenes = [draw_scene(np.random.default_rng(seed), radii=(0.1,)) for seed in (3, 3, 4)]
    assert scenes[0] == scenes[1] != scenes[2]


def test_rectangles_lie_where_they_are_said_to():
    assert centred(0.5, 0.4, 0.2, 0.1) == (0.4, 0.35000000000000003, 0.6, 0.45)
    assert floor_at(0.9).top == 0.9
    draws = [either_sign(np.random.default_rng(seed), 0.3, 0.5) for seed in range(40)]
    assert {np.sign(draw) for draw in draws} == {-1, 1}
    assert all(0.3 <= abs(draw) <= 0.5 for draw in draws)
