"""Reaching with the Panda: the hand, and nothing else, has to be within 5 cm."""

import numpy as np
import pytest

pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")

from planning.environments.panda_reach import LEAST_WAY, PandaReach


@pytest.fixture(scope="module")
def task():
    return PandaReach()


def test_the_expert_reaches_the_goal_in_eight_of_eight_episodes(task):
    for seed in range(8):
        generator = np.random.default_rng(seed)
        step, expert = task.reset(generator), task.make_expert()
        assert not step.is_success
        while not step.is_last:
            step = task.step(expert(task, step, generator))
        assert step.is_success
        assert np.linalg.norm(step.state[:3] - task.goal.state[:3]) < 0.05


def test_the_distance_is_that_between_the_hands(task):
    for seed in range(4):
        step = task.reset(np.random.default_rng(seed))
        between = float(np.linalg.norm(step.state[:3] - task.goal.state[:3]))
        assert task.distance_to_goal() == pytest.approx(between, abs=1e-6)
        assert between >= LEAST_WAY


def test_the_goal_keeps_the_cube_where_it_is(task):
    generator = np.random.default_rng(0)
    start, goal = task._sample_task(generator, None, None)
    assert np.array_equal(start[9:16], goal[9:16])
    again, same = task._sample_task(generator, None, goal)
    assert same is goal
    assert np.array_equal(again[9:16], goal[9:16])


def test_doing_nothing_never_succeeds(task):
    step = task.reset(np.random.default_rng(0))
    while not step.is_last:
        step = task.step(np.zeros(7))
    assert not step.is_success
