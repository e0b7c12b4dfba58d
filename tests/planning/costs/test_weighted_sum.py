"""Weights add up, parts add up to the whole, and what cannot be compared is ruled out."""

import pytest
import torch

from planning.actions.space import ActionSpec
from planning.costs import (
    L1,
    ActionSize,
    Box,
    Disagreement,
    GoalDistance,
    KeepOut,
    WeightedSum,
    finite_costs,
)
from planning.planners.cem import CEM
from planning.types import Latent

ACTIONS = torch.tensor([[[1.0], [3.0]], [[2.0], [0.0]]])
GOAL = GoalDistance(Latent(torch.zeros(1, 1)), L1())
NO_TOKENS = Latent(torch.tensor([[[[1.0]], [[2.0]]], [[[4.0]], [[4.0]]]]))


def test_the_sum_and_its_parts_by_hand():
    cost = WeightedSum({"goal": (2.0, GOAL), "size": (0.5, ActionSize())})
    parts = cost.parts(NO_TOKENS, ACTIONS)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "goal": [3, 8],
        "size": [2.5, 1],
    }
    assert cost(NO_TOKENS, ACTIONS).tolist() == [5.5, 9]


def test_parts_always_add_up_to_the_whole(rollouts):
    generator = torch.Generator().manual_seed(0)
    imagined = Latent(
        torch.randn(5, 3, 1, 1, generator=generator),
        torch.randn(5, 3, 2, generator=generator),
        torch.rand(5, 3, generator=generator),
    )
    actions = torch.randn(5, 3, 2, generator=generator)
    region = KeepOut((Box((0.0, 0.0), (1.0, 1.0)),), margin=0.5, is_hard=False)
    cost = WeightedSum(
        {
            "goal": (1.0, GOAL),
            "size": (0.1, ActionSize()),
            "unsure": (3.0, Disagreement("max")),
            "region": (10.0, region),
        }
    )
    total = sum(cost.parts(imagined, actions).values())
    assert torch.allclose(cost(imagined, actions), total)
    assert cost.parts(imagined, actions)["region"].any()


def test_a_sum_of_sums_is_a_sum():
    inner = WeightedSum({"goal": (2.0, GOAL)})
    assert WeightedSum({"all": (3.0, inner)})(NO_TOKENS, ACTIONS).tolist() == [9, 24]


def test_a_weight_of_zero_leaves_a_cost_out_even_one_that_rules_out_or_cannot_be_computed():
    def impossible(imagined, actions):
        return torch.full((len(actions),), torch.inf)

    cost = WeightedSum({"goal": (1.0, GOAL), "no": (0.0, impossible), "ens": (0.0, Disagreement())})
    assert torch.equal(cost(NO_TOKENS, ACTIONS), GOAL(NO_TOKENS, ACTIONS))
    assert cost.parts(NO_TOKENS, ACTIONS)["no"].tolist() == [0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_part_that_is_not_finite_rules_a_sequence_out(value):
    def broken(imagined, actions):
        return torch.tensor([value, 1.0])

    costs = WeightedSum({"goal": (1.0, GOAL), "broken": (0.1, broken)})(NO_TOKENS, ACTIONS)
    assert finite_costs(costs).tolist() == pytest.approx([float("inf"), 4.1])


def test_its_gradient_is_the_weighted_sum_of_gradients():
    actions = ACTIONS.clone().requires_grad_()
    WeightedSum({"size": (0.5, ActionSize())})(NO_TOKENS, actions).sum().backward()
    assert torch.allclose(actions.grad, 0.5 * 2 * ACTIONS / 2)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="the weight of 'goal' must be at least 0 and finite"):
        WeightedSum({"goal": (weight, GOAL)})


@pytest.mark.parametrize("terms", [{}, {"goal": (0.0, GOAL)}])
def test_a_sum_of_nothing_is_refused(terms):
    with pytest.raises(ValueError, match="at least one term with a positive weight"):
        WeightedSum(terms)


def test_a_cost_of_another_shape_is_refused_by_name():
    def per_step(imagined, actions):
        return torch.zeros(len(actions), 2)

    with pytest.raises(ValueError, match=r"cost 'steps' must return \(2,\), .* got \(2, 2\)"):
        WeightedSum({"steps": (1.0, per_step)})(NO_TOKENS, ACTIONS)


class StateWorld:
    """The state is the sum of the actions; latents show it too."""

    action_dim = 2

    def rollout(self, start, actions):
        states = start.state + actions.cumsum(-2)
        return Latent(states.unsqueeze(-2), states)


def test_a_planner_goes_around_what_it_must_keep_out_of():
    goal = GoalDistance(Latent(torch.tensor([[4.0, 0.0]])), L1(), "last")
    wall = Box((1.0, -1.0), (3.0, 3.0))  # the way around is below
    spec = ActionSpec(("x", "y"), ("1", "1"), (-1.5, -1.5), (1.5, 1.5))
    plans = {}
    for name, weight in (("straight", 0.0), ("around", 1.0)):
        plans[name] = CEM(horizon=5, num_iterations=15).plan(
            StateWorld(),
            Latent(torch.zeros(1, 2), torch.zeros(2)),
            cost=WeightedSum({"goal": (1.0, goal), "wall": (weight, KeepOut((wall,)))}),
            action_spec=spec,
            generator=torch.Generator().manual_seed(0),
        )
    inside = {
        name: (wall.signed_distance(plan.actions.cumsum(0)) < 0).any().item()
        for name, plan in plans.items()
    }
    assert inside == {"straight": True, "around": False}
    assert all(plan.cost < 0.2 for plan in plans.values())
