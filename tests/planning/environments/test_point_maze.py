"""PointMaze: its walls, its success, and what is this toolkit's choice."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from planning.environments import make_environment


def made(**options):
    try:
        return make_environment("point_maze", **options)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def started(start, goal=(1.2, -1.2), **options):
    environment = made(**options)
    environment.reset(np.random.default_rng(0), start=np.array(start), goal=np.array(goal))
    return environment


def test_the_wall_of_the_u_cannot_be_passed():
    environment = started((-1.0, 1.0), (-1.0, -1.0))
    for _ in range(40):
        step = environment.step(np.array([0.0, -1.0]))
    assert 0.5 < step.state[1] < 0.65  # the ball of radius 0.1 at the wall, which begins at 0.5
    assert not step.is_success


def test_the_way_round_the_u_is_open():
    environment = started((-1.0, 1.0), (-1.0, -1.0))
    generator, expert = np.random.default_rng(0), environment.make_expert()
    step = environment.reset(generator, start=np.array([-1.0, 1.0]), goal=np.array([-1.0, -1.0]))
    furthest = -1.0
    while not step.is_last:
        step = environment.step(expert(environment, step, generator))
        furthest = max(furthest, float(step.state[0]))
    assert step.is_success
    assert furthest > 0.5  # round the end of the wall, not through it


@pytest.mark.parametrize(("distance", "is_success"), [(0.49, True), (0.51, False)])
def test_success_is_within_half_a_cell(distance, is_success):
    environment = made()
    goal = np.array([-0.9, 1.0])
    start = np.array([-0.9 + distance, 1.0])
    step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
    assert step.is_success == is_success


def test_starts_are_drawn_from_all_of_the_floor_and_from_nothing_else():
    environment, generator = made(), np.random.default_rng(0)
    places = np.array([environment.sample_configuration(generator) for _ in range(500)])
    assert np.abs(places).max() <= 1.4  # the floor ends at 1.5, the ball has a radius of 0.1
    cells = {tuple(cell) for cell in np.floor(places + 0.5).astype(int)}
    assert cells == {(-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)}
    in_the_wall = (np.abs(places[:, 1]) < 0.6) & (places[:, 0] < 0.6)
    assert not in_the_wall.any()


def test_an_action_that_is_held_is_the_action_again_and_again():
    held, single = started((-1.0, 1.0)), started((-1.0, 1.0), action_repeat=1)
    assert held.frames_per_second == 20
    assert single.frames_per_second == 100
    for action in np.random.default_rng(0).uniform(-1, 1, size=(6, 2)):
        step = held.step(action)
        for _ in range(5):
            other = single.step(action)
        assert np.array_equal(step.state, other.state)
        assert np.array_equal(step.frame, other.frame)


def test_an_episode_starts_at_rest_or_with_a_drawn_speed():
    at_rest, moving = made(), made(max_start_speed=2.0)
    place = np.array([-1.0, 1.0])
    assert at_rest.reset(np.random.default_rng(0), start=place).state[2:].tolist() == [0, 0]
    speeds = np.array(
        [moving.reset(np.random.default_rng(seed), start=place).state[2:] for seed in range(40)]
    )
    assert 1.5 < np.abs(speeds).max() <= 2.0
    assert (np.abs(speeds).max(axis=1) > 0).all()
    again = moving.reset(np.random.default_rng(7), start=place).state[2:]
    assert np.array_equal(again, speeds[7])
    assert moving.goal.state[2:].tolist() == [0, 0]


def test_the_goal_is_not_drawn():
    environment = made()
    start = np.array([-1.0, 1.0])
    near = environment.reset(np.random.default_rng(0), start=start, goal=np.array([0.0, 1.0]))
    far = environment.reset(np.random.default_rng(0), start=start, goal=np.array([1.2, -1.0]))
    assert np.array_equal(near.frame, far.frame)
    environment._painter.model.site("target").pos[:] = (1.0, 0.0, 0.3)  # above the floor
    assert np.array_equal(environment.render(start), near.frame)


def test_the_simulator_leaves_no_file_behind():
    made()
    before = set(Path(tempfile.gettempdir()).glob("ant_maze*.xml"))
    made()
    assert set(Path(tempfile.gettempdir()).glob("ant_maze*.xml")) <= before


def test_the_expert_knows_the_larger_maze_too():
    environment, generator = made(layout="medium", max_steps=150), np.random.default_rng(0)
    for index in range(4):
        start, goal, _ = environment.draw_task(generator, index)
        step, expert = environment.reset(generator, start=start, goal=goal), None
        expert = environment.make_expert()
        while not step.is_last:
            step = environment.step(expert(environment, step, generator))
        assert step.is_success


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "large"}, "layout must be one of umaze, medium, got 'large'"),
        ({"action_repeat": 0}, r"action_repeat must be in \[1, 100\], got 0"),
        ({"max_start_speed": 6.0}, r"max_start_speed must be in \[0, 5\], got 6"),
        ({"image_size": 16}, r"image_size must be in \[32, 512\], got 16"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_a_start_inside_the_wall_is_refused():
    with pytest.raises(ValueError, match=r"start must be a place .* got \[-1.0, 0.0\]"):
        started((-1.0, 0.0))
