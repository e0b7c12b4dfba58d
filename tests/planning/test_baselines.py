"""Policies to compare with, in two rooms of 32 pixels."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from planning.actions.space import ActionSpec
from planning.baselines import (
    KnowsTheWay,
    StickyRandom,
    do_nothing,
    oracle,
    random_actions,
    straight_line,
)
from planning.control.mpc import run_episode
from planning.types import Goal, TimeStep

IN_ONE_ROOM = (np.array([8.0, 8.0]), np.array([8.0, 26.0]))
BEHIND_THE_WALL = (np.array([8.0, 26.0]), np.array([25.0, 26.0]))


class Elsewhere:
    """A world with actions of other units and no known way."""

    name = "elsewhere"
    state_units = ("radian", "radian")
    action_spec = ActionSpec(("a", "b"), ("volt", "volt"), (-1.0, -1.0), (1.0, 1.0))
    goal = Goal(np.zeros((32, 32, 3), np.uint8), np.zeros(2, np.float32))


def played(environment, policy, way, seed=0):
    start, goal = way
    generator = np.random.default_rng(seed)
    return run_episode(environment, policy, start=start, goal=goal, generator=generator)


def shown(state):
    return TimeStep(np.zeros((32, 32, 3), np.uint8), np.float32(state), False, False)


# Without knowledge.


def test_doing_nothing_stays_where_it_is(rooms):
    episode = played(rooms(max_steps=5), do_nothing, IN_ONE_ROOM)
    assert episode.num_steps == 5
    assert not episode.is_success
    assert all(np.array_equal(state, np.float32(IN_ONE_ROOM[0])) for state in episode.states)
    assert episode.final_distance == pytest.approx(18.0)


def test_where_actions_are_choices_none_of_them_is_nothing():
    spec = ActionSpec(("left", "right"), ("1",) * 2, (0.0,) * 2, (1.0,) * 2, kind="one_hot")
    pole = SimpleNamespace(name="pole", action_spec=spec)
    with pytest.raises(ValueError, match=r"pole has no action that does nothing: .* among 2"):
        do_nothing(pole, None, np.random.default_rng(0))


def test_random_actions_are_fresh_inside_the_bounds_and_repeatable(rooms):
    one = played(rooms(max_steps=20), random_actions, BEHIND_THE_WALL, seed=1)
    again = played(rooms(max_steps=20), random_actions, BEHIND_THE_WALL, seed=1)
    other = played(rooms(max_steps=20), random_actions, BEHIND_THE_WALL, seed=2)
    assert len({tuple(action) for action in one.actions}) == one.num_steps
    assert np.abs(one.actions).max() <= 2.5
    assert np.array_equal(one.actions, again.actions)
    assert not np.array_equal(one.actions, other.actions)


def test_sticky_random_keeps_its_action_as_often_as_it_says(rooms):
    environment, policy = rooms(), StickyRandom(change_probability=0.25)
    generator = np.random.default_rng(0)
    actions = [policy(environment, shown((0, 0)), generator).copy() for _ in range(4000)]
    kept = [np.array_equal(one, two) for one, two in pairwise(actions)]
    assert np.mean(kept) == pytest.approx(0.75, abs=0.03)


def test_sticky_random_that_always_changes_is_random(rooms):
    policy, generator = StickyRandom(change_probability=1.0), np.random.default_rng(0)
    actions = [tuple(policy(rooms(), shown((0, 0)), generator)) for _ in range(50)]
    assert len(set(actions)) == 50


def test_each_sticky_random_begins_with_an_action_of_its_own(rooms):
    generator = np.random.default_rng(0)
    one, two = (StickyRandom(1e-9)(rooms(), shown((0, 0)), generator) for _ in range(2))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5, float("nan")])
def test_a_chance_that_cannot_be_is_refused(probability):
    with pytest.raises(ValueError, match=r"change_probability must be in \(0, 1\], got"):
        StickyRandom(probability)


# With knowledge of the true states.


def test_the_oracle_reaches_the_goal_in_the_room_and_behind_the_wall(rooms):
    for way in (IN_ONE_ROOM, BEHIND_THE_WALL):
        episode = played(rooms(), oracle, way)
        assert episode.is_success
        assert episode.final_distance < 2.0


def test_the_oracle_asks_any_environment_that_knows_the_way():
    class OneWay(Elsewhere):
        def shortest_path_action(self, state, goal, /):
            return np.sign(goal - state)

    assert isinstance(OneWay(), KnowsTheWay)
    assert oracle(OneWay(), shown((2, -3)), np.random.default_rng(0)).tolist() == [-1, 1]


def test_the_oracle_refuses_an_environment_that_does_not_know_the_way():
    with pytest.raises(ValueError, match=r"with shortest_path_action.*, elsewhere has none"):
        oracle(Elsewhere(), shown((0, 0)), np.random.default_rng(0))


def test_the_straight_line_reaches_what_is_in_sight_only(rooms):
    in_sight = played(rooms(), straight_line, IN_ONE_ROOM)
    assert in_sight.is_success
    assert in_sight.num_steps == 7  # 18 pixels, 2.5 a step, until less than 2 are left
    assert not played(rooms(), straight_line, BEHIND_THE_WALL).is_success


def test_the_straight_line_keeps_its_direction_at_the_bounds(rooms):
    environment = rooms()
    environment.reset(np.random.default_rng(0), start=BEHIND_THE_WALL[0], goal=BEHIND_THE_WALL[1])
    action = straight_line(environment, shown((5.0, 16.0)), np.random.default_rng(0))
    assert action.tolist() == pytest.approx([2.5, 1.25])  # towards (25, 26): 20 by 10
    near = straight_line(environment, shown((24.5, 27.0)), np.random.default_rng(0))
    assert near.tolist() == pytest.approx([0.5, -1.0])  # no farther than the goal


def test_the_straight_line_knows_bounds_that_differ_by_direction():
    class Lopsided(Elsewhere):
        action_spec = ActionSpec(
            ("a", "b"), ("radian/step", "radian/step"), (-0.5, -4.0), (2.0, 1.0)
        )

    def action(state):
        return straight_line(Lopsided(), shown(state), np.random.default_rng(0)).tolist()

    assert action((5.0, 0.0)) == pytest.approx([-0.5, 0.0])
    assert action((-5.0, -5.0)) == pytest.approx([1.0, 1.0])
    assert action((0.0, 0.0)) == [0.0, 0.0]


def test_the_straight_line_refuses_actions_that_are_no_change_of_the_state():
    with pytest.raises(
        ValueError, match="elsewhere has actions in volt, volt and states in radian"
    ):
        straight_line(Elsewhere(), shown((0, 0)), np.random.default_rng(0))
