"""Distances to the goal over a rollout, by hand."""

import pytest
import torch

from planning.costs import GoalDistance, finite_costs
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


@pytest.mark.parametrize("reduction", ["mean", "last"])
def test_staying_at_the_goal_costs_nothing_and_all_else_something(reduction):
    cost = GoalDistance(GOAL, mean_absolute, reduction)
    costs = cost(imagined_at([[0.0] * 3, [1e-3] * 3]), NO_ACTIONS)
    assert costs[0] == 0 < costs[1]


@pytest.mark.parametrize("reduction", ["mean", "last"])
def test_actions_and_imagined_states_do_not_count(reduction):
    cost = GoalDistance(GOAL, mean_absolute, reduction)
    expected = cost(ROLLOUTS, NO_ACTIONS)
    with_state = Latent(ROLLOUTS.tokens, torch.full((2, 3, 5), 7.0))
    assert torch.equal(cost(with_state, torch.full((2, 3, 4), 9.0)), expected)


def test_a_reduction_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'last', got 'sum'"):
        GoalDistance(GOAL, mean_absolute, "sum")


def test_costs_that_are_not_finite_become_infinite_and_the_others_stay():
    costs = torch.tensor([2.0, float("nan"), -1.0, float("inf"), float("-inf")])
    expected = [2.0, float("inf"), -1.0, float("inf"), float("inf")]
    assert finite_costs(costs).tolist() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_costs_of_which_none_is_finite_are_an_error(value):
    with pytest.raises(FloatingPointError, match="all 3 imagined costs are NaN or infinite"):
        finite_costs(torch.full((3,), value))
