"""Distances to the goal over a rollout, by hand."""

import pytest
import torch

from planning.costs import L2, Discounted, GoalDistance
from planning.types import Latent

GOAL = Latent(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))  # two tokens of two
NO_ACTIONS = torch.empty(2, 3, 0)


def mean_absolute(latents, goal):
    return (latents - goal).abs().mean((-2, -1))


def imagined_at(offsets):
    """Rollouts whose latents are the goal plus a number: that number is the distance."""
    offsets = torch.tensor(offsets)  # (samples, horizon)
    return Latent(GOAL.tokens + offsets[..., None, None])


ROLLOUTS = imagined_at([[3.0, 2.0, 1.0], [0.0, 0.0, 6.0]])


def test_distances_of_each_step_by_hand():
    distances = GoalDistance(GOAL, mean_absolute).per_step(ROLLOUTS)
    assert distances.tolist() == [[3, 2, 1], [0, 0, 6]]


def test_the_mean_of_the_steps_by_hand():
    assert GoalDistance(GOAL, mean_absolute)(ROLLOUTS, NO_ACTIONS).tolist() == [2, 2]


def test_the_last_step_by_hand():
    assert GoalDistance(GOAL, mean_absolute, "last")(ROLLOUTS, NO_ACTIONS).tolist() == [1, 6]


def test_discounted_steps_by_hand():
    cost = GoalDistance(GOAL, mean_absolute, Discounted(0.5))  # weights 4/7, 2/7, 1/7
    assert cost(ROLLOUTS, NO_ACTIONS).tolist() == pytest.approx([17 / 7, 6 / 7])


@pytest.mark.parametrize("reduction", ["mean", "last", Discounted(0.5)])
def test_staying_at_the_goal_costs_nothing_and_all_else_something(reduction):
    cost = GoalDistance(GOAL, mean_absolute, reduction)
    costs = cost(imagined_at([[0.0] * 3, [1e-3] * 3]), NO_ACTIONS)
    assert costs[0] == 0 < costs[1]


@pytest.mark.parametrize("reduction", ["mean", "last", Discounted(0.5)])
def test_actions_and_imagined_states_do_not_count(reduction):
    cost = GoalDistance(GOAL, mean_absolute, reduction)
    expected = cost(ROLLOUTS, NO_ACTIONS)
    with_state = Latent(ROLLOUTS.tokens, torch.full((2, 3, 5), 7.0))
    assert torch.equal(cost(with_state, torch.full((2, 3, 4), 9.0)), expected)


def test_a_rollout_that_becomes_nan_costs_nan_which_the_driver_rules_out():
    costs = GoalDistance(GOAL, mean_absolute)(imagined_at([[0.0, float("nan")], [1.0, 1.0]]), None)
    assert costs.isnan().tolist() == [True, False]


def test_its_gradient_is_that_of_finite_differences(
    assert_gradient_is_that_of_finite_differences,
):
    goal = Latent(GOAL.tokens.double())
    for reduction in ("mean", "last", Discounted(0.7)):
        cost = GoalDistance(goal, L2(), reduction)
        assert_gradient_is_that_of_finite_differences(
            lambda tokens, cost=cost: cost(Latent(tokens), None), 2, 3, 2, 2
        )


def test_a_reduction_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'last', got 'sum'"):
        GoalDistance(GOAL, mean_absolute, "sum")


def test_a_goal_of_another_world_is_refused():
    cost = GoalDistance(Latent(torch.zeros(1, 2)), mean_absolute)
    message = "goal has 1 tokens of 2, the imagined latents have 2 tokens of 2; encode the goal"
    with pytest.raises(ValueError, match=message):
        cost(ROLLOUTS, NO_ACTIONS)


def test_several_goals_at_once_are_refused():
    with pytest.raises(ValueError, match=r"one latent \(tokens, dim\), got \(5, 2, 2\)"):
        GoalDistance(Latent(torch.zeros(5, 2, 2)), mean_absolute)
