"""Pushing with the Panda: the cube has to be within 5 cm of where the goal shows it."""

import numpy as np
import pytest

pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")

from planning.environments.panda_push import LEAST_WAY, MOST_WAY, PandaPush


@pytest.fixture(scope="module")
def task():
    return PandaPush()


def test_the_expert_pushes_the_cube_to_the_goal_in_eight_of_eight_episodes(task):
    for seed in range(8):
        generator = np.random.default_rng(seed)
        step, expert = task.reset(generator), task.make_expert()
        while not step.is_last:
            step = task.step(expert(task, step, generator))
        assert step.is_success
        assert task._table.cube_position[2] < -0.08  # pushed, not carried


def test_the_cube_begins_some_way_from_its_goal_and_stays_on_the_table(task):
    for seed in range(6):
        start, goal = task._sample_task(np.random.default_rng(seed), None, None)
        assert LEAST_WAY <= np.linalg.norm(start[9:11] - goal[9:11]) <= MOST_WAY
        assert start[11] == goal[11]


def test_only_the_cube_counts(task):
    generator = np.random.default_rng(0)
    start, goal = task._sample_task(generator, None, None)
    moved = goal.copy()
    moved[9:16] = start[9:16]  # the hand is where it should be, the cube is not
    assert not task.reset(generator, start=moved, goal=goal).is_success
    there = start.copy()
    there[9:16] = goal[9:16]
    assert task.reset(generator, start=there, goal=goal).is_success


def test_in_the_goal_the_fingers_are_behind_the_cube_and_touch_nothing(task):
    """Nothing moves from there, so the picture is one of rest."""
    for seed in range(4):
        _, goal = task._sample_task(np.random.default_rng(seed), None, None)
        task._table.place(goal)
        task._act(np.zeros(7))
        assert np.abs(task._table.cube_position - goal[9:12]).max() < 1e-4
