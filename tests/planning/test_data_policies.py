"""Policies that data are recorded with."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from planning.actions.space import ActionSpec
from planning.baselines import oracle
from planning.data_policies import DataPolicy, Noisy, OnePerGoal, SeededPlanning, expert_maker
from planning.planners.cem import CEM
from planning.types import Goal


def zero(environment, time_step, generator):
    return np.zeros(2, dtype=np.float32)


def played(environment, policy, num_steps, *, seed=0):
    """Actions of a policy in one episode, which goes on after goals."""
    generator = np.random.default_rng(seed)
    time_step, actions = environment.reset(generator), []
    while len(actions) < num_steps:
        if time_step.is_last:
            time_step = environment.new_goal(generator)
            continue
        actions.append(policy(environment, time_step, generator))
        time_step = environment.step(actions[-1])
    return np.stack(actions)


def test_noise_of_zero_without_detours_changes_nothing(rooms):
    noisy = Noisy(oracle, max_noise=0.0, detour_probability=0.0)
    # Up to the first goal: the generator, which draws the level, also draws the goals.
    np.testing.assert_array_equal(played(rooms(), noisy, 6), played(rooms(), oracle, 6))


def test_noise_is_a_share_of_half_the_range_at_a_level_of_the_episode(rooms):
    room, levels = rooms(max_steps=10_000), []
    for seed in range(12):
        actions = played(room, Noisy(zero, max_noise=0.2, detour_probability=0.0), 300, seed=seed)
        levels.append(actions.std() / room.max_move)
    assert max(levels) < 0.22 and min(levels) < 0.1 < max(levels)  # uniform in [0, 0.2]
    assert np.std(levels) > 0.03


def test_detours_hold_a_random_action_for_a_while(rooms):
    noisy = Noisy(zero, max_noise=0.0, detour_probability=0.2, max_detour=3)
    actions = played(rooms(max_steps=10_000), noisy, 300)
    moving = np.abs(actions).sum(1) > 0
    assert 0.15 < moving.mean() < 0.6
    changes = (np.abs(np.diff(actions, axis=0)).sum(1) > 0).sum()
    assert changes < moving.sum() * 1.5  # some are held


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_noise": -0.1}, r"max_noise must be in \[0, 2\]"),
        ({"detour_probability": 1.5}, "detour_probability in"),
        ({"max_detour": 0}, "max_detour must be at least 1 step, got 0"),
    ],
)
def test_noise_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Noisy(zero, **options)


def test_each_goal_gets_a_policy_of_its_own(rooms):
    made = []

    def make():
        made.append(len(made))
        return oracle

    room = rooms()
    played(room, OnePerGoal(make), 40)
    goals_reached = len(made) - 1
    assert goals_reached >= 2  # the way through 32 pixels takes less than 15 steps


def test_goals_without_a_state_are_told_apart_by_their_pictures(rooms):
    room, made = rooms(), []
    step = room.reset(np.random.default_rng(0))
    goals = [Goal(np.full((2, 2, 3), shade, np.uint8), np.zeros(0)) for shade in (1, 1, 2)]
    policy = OnePerGoal(lambda: made.append(1) or zero)
    for goal in goals:
        policy(SimpleNamespace(goal=goal), step, np.random.default_rng(0))
    assert len(made) == 2


def test_choices_are_disturbed_by_other_choices():
    spec = ActionSpec(("a", "b", "c"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, kind="one_hot")
    world, generator = SimpleNamespace(action_spec=spec), np.random.default_rng(0)
    noisy = Noisy(lambda *_: np.array([1.0, 0, 0], np.float32), 1.0, detour_probability=0.0)
    actions = np.stack([noisy(world, None, generator) for _ in range(600)])
    assert (actions.sum(1) == 1).all() and set(np.unique(actions)) == {0, 1}
    np.testing.assert_allclose(actions.mean(0)[1:], noisy._level / 3, atol=0.06)


def test_each_episode_plans_with_samples_of_its_own(rooms):
    """And the same episode with the same: the seed is drawn with the episode's randomness."""
    seeds = []

    def make(seed):
        seeds.append(seed)
        return zero

    for seed in (0, 1, 0):
        played(rooms(), OnePerGoal(lambda: SeededPlanning(make)), 3, seed=seed)
    assert seeds[0] == seeds[2] != seeds[1]


class KnowsTheWayOnly:
    name = "corridor"

    def shortest_path_action(self, state, goal):
        return goal - state


def test_the_shortest_way_is_the_expert_where_the_environment_knows_it():
    assert expert_maker(KnowsTheWayOnly())() is oracle


def test_an_expert_of_its_own_comes_first_and_none_is_said(rooms):
    class WithExpert(type(rooms())):
        def make_expert(self):
            return zero

    class WithNothing:
        name = "rolling_ball"

    assert expert_maker(WithExpert(image_size=32))() is zero
    with pytest.raises(ValueError, match="rolling_ball has no expert; record it with --policy"):
        expert_maker(WithNothing())


def test_an_unknown_policy_and_a_planner_without_a_world_model_are_refused():
    with pytest.raises(ValueError, match="policy must be random, expert, noisy-expert, planner, g"):
        DataPolicy("clever")
    with pytest.raises(ValueError, match="needs a world model to plan with"):
        DataPolicy("planner", planner=CEM())


def test_a_planner_acts_with_its_world_model_in_another_process_too(checkpoint):
    from planning.environments.two_rooms import TwoRooms

    planner = CEM(horizon=3, num_samples=8, num_elites=2, num_iterations=1)
    policy = DataPolicy("planner", checkpoint=checkpoint, planner=planner, execute_steps=2)
    room = TwoRooms()
    here = played(room, policy.maker(room)(), 5)
    there = played(room, pickle.loads(pickle.dumps(policy)).maker(room)(), 5)
    np.testing.assert_array_equal(here, there)
    other = played(room, policy.maker(room)(), 5, seed=1)
    assert not np.array_equal(here[0], other[0])
    assert policy.to_json()["planner"]["num_samples"] == 8
