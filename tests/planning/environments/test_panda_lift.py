"""Lifting with the Panda: the cube has to be held where the goal shows it."""

import numpy as np
import pytest

pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")

from planning.data_policies import OnePerGoal
from planning.environments.panda_lift import LEAST_HEIGHT, MOST_HEIGHT, PandaLift
from planning.recording import record_episode


@pytest.fixture(scope="module")
def task():
    return PandaLift()


def test_the_expert_lifts_the_cube_in_eight_of_eight_episodes(task):
    for seed in range(8):
        generator = np.random.default_rng(seed)
        step, expert = task.reset(generator), task.make_expert()
        resting = task._table.cube_position[2]
        while not step.is_last:
            step = task.step(expert(task, step, generator))
        assert step.is_success
        assert task._table.cube_position[2] > resting + 0.05


def test_goals_show_the_cube_raised_in_the_closed_hand(task):
    for seed in range(6):
        start, goal = task._sample_task(np.random.default_rng(seed), None, None)
        assert LEAST_HEIGHT <= goal[11] - start[11] <= MOST_HEIGHT
        task._table.place(goal)
        assert np.abs(task._table.hand_position - task._table.cube_position).max() < 1e-6
        assert 0.3 < task._table.closedness < 0.7


def test_one_goal_after_the_other_stays_in_reach_of_the_hand(task):
    """Goals are raised above the table, not above where the cube is held already."""
    policy = OnePerGoal(task.make_expert)
    resting, goals = task._table.resting_height, []

    def watched(environment, time_step, generator):
        goals.append(task.goal_configuration[11])
        return policy(environment, time_step, generator)

    generator = np.random.default_rng(0)
    episode = record_episode(task, watched, generator, num_steps=70, key="lifts")
    assert "ended_early" not in episode.about and episode.about["goals_reached"] >= 3
    raised = np.array(goals) - resting
    assert LEAST_HEIGHT <= raised.min() and raised.max() <= MOST_HEIGHT
    assert len(set(goals)) >= 3


def test_a_cube_that_is_held_in_the_start_stays_in_the_hand(task):
    """Though the gripper is not told anything: what it was told is in the configuration."""
    start, held = task._sample_task(np.random.default_rng(2), None, None)
    low = held.copy()
    task.reset(np.random.default_rng(0), start=held, goal=start)
    before = task._table.cube_position
    for _ in range(4):
        task.step(np.array([0, 0, 0.03, 0, 0, 0, 0]))
    raised = task._table.cube_position - before
    assert raised[2] == pytest.approx(0.12, abs=0.015)
    assert np.abs(raised[:2]).max() < 0.01
    low[16] = 0.0  # told to open
    task.reset(np.random.default_rng(0), start=low, goal=held)
    for _ in range(4):
        task._act(np.zeros(7))
    assert task._table.cube_position[2] < before[2] - 0.05


def test_a_cube_on_the_table_is_no_success_wherever_the_hand_is(task):
    start, goal = task._sample_task(np.random.default_rng(1), None, None)
    goal_hand = goal.copy()
    goal_hand[9:16] = start[9:16]
    assert not task.reset(np.random.default_rng(0), start=goal_hand, goal=goal).is_success
