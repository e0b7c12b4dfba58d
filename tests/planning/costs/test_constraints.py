"""Keeping out, and keeping in: by hand, hard and soft."""

import pytest
import torch

from planning.costs import Box, Disc, KeepOut, StateUnits, Workspace, finite_costs

POND = Disc((5.0, 0.0), 1.0)
# Past the pond at 2, at 0.5 and through its middle.
WAYS = torch.tensor([[[5.0, 3.0], [6.0, 3.0]], [[5.0, 1.5], [9.0, 0.0]], [[5.0, 0.0], [9.0, 0.0]]])
INF = float("inf")


def cost_of(constraint, rollouts, states=WAYS):
    return constraint(rollouts(states=states), None).tolist()


def test_a_hard_region_rules_out_what_comes_into_it_and_nothing_else(rollouts):
    assert cost_of(KeepOut((POND,)), rollouts) == [0, 0, INF]
    assert cost_of(KeepOut((POND,), margin=1.0), rollouts) == [0, INF, INF]


def test_the_border_is_still_allowed(rollouts):
    assert cost_of(KeepOut((POND,)), rollouts, [[[6.0, 0.0]]]) == [0]


def test_a_soft_region_counts_how_much_too_close_by_hand(rollouts):
    # Distances 2 and more; 0.5 and 3; -1 and 3. Short of 1: nothing; 0.5; 2. Half of it: the mean.
    assert cost_of(KeepOut((POND,), margin=1.0, is_hard=False), rollouts) == [0, 0.25, 1]


def test_soft_regions_add_up_and_one_hard_one_is_enough(rollouts):
    second = Box((8.5, -1.0), (9.5, 1.0))
    both = KeepOut((POND, second), is_hard=False)
    assert cost_of(both, rollouts) == [0, 0.25, 0.5 + 0.25]
    assert cost_of(KeepOut((POND, second)), rollouts) == [0, INF, INF]


def test_regions_are_in_raw_units_of_chosen_columns(rollouts):
    units = StateUnits(torch.tensor([0.0, 10.0, 0.0]), torch.tensor([1.0, 5.0, 1.0]))
    states = [[[7.0, -1.0, 7.0]], [[7.0, 0.0, 7.0]]]  # the middle column is 5, then 10
    constraint = KeepOut((Box((4.0,), (6.0,)),), columns=(1,), units=units)
    assert cost_of(constraint, rollouts, states) == [INF, 0]


def test_a_workspace_rules_out_what_leaves_it(rollouts):
    states = [[[1.0, 1.0]], [[1.0, 2.5]], [[0.5, 1.0]]]
    box = Box((0.0, 0.0), (2.0, 2.0))
    assert cost_of(Workspace(box), rollouts, states) == [0, INF, 0]
    assert cost_of(Workspace(box, margin=0.75), rollouts, states) == [0, INF, INF]
    soft = Workspace(box, margin=0.75, is_hard=False)
    assert cost_of(soft, rollouts, states) == [0, 1.25, 0.25]


@pytest.mark.parametrize("is_hard", [True, False])
@pytest.mark.parametrize("kind", ["region", "workspace"])
def test_an_unknown_state_is_never_a_safe_one(rollouts, is_hard, kind):
    constraint = (
        KeepOut((POND,), is_hard=is_hard)
        if kind == "region"
        else Workspace(Box((-9.0, -9.0), (9.0, 9.0)), is_hard=is_hard)
    )
    states = torch.tensor([[[0.0, 0.0], [float("nan"), 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    costs = finite_costs(constraint(rollouts(states=states), None))
    assert costs.tolist() == [INF, 0]


def test_a_soft_gradient_is_that_of_finite_differences_and_leads_away(
    rollouts, assert_gradient_is_that_of_finite_differences
):
    for constraint in (
        KeepOut((POND, Box((-1.0, -1.0), (1.0, 1.0))), margin=3.0, is_hard=False),
        Workspace(Box((-0.5, -0.5), (0.5, 0.5)), margin=0.2, is_hard=False),
    ):
        assert_gradient_is_that_of_finite_differences(
            lambda states, constraint=constraint: constraint(
                rollouts(states=states, dtype=torch.float64), None
            ),
            2, 3, 2,
        )  # fmt: skip
    state = torch.tensor([[[5.5, 0.0]]], requires_grad=True)
    KeepOut((POND,), is_hard=False)(rollouts(states=state), None).sum().backward()
    assert state.grad.tolist() == [[[-1, 0]]]  # away from the middle, the cost falls


def test_a_hard_constraint_has_a_gradient_of_zero(rollouts):
    states = WAYS.clone().requires_grad_()
    costs = KeepOut((POND,))(rollouts(states=states), None)
    costs[costs.isfinite()].sum().backward()
    assert not states.grad.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KeepOut(()), "at least one region"),
        (lambda: KeepOut((POND,), margin=-1.0), "margin must be at least 0 and finite, got -1.0"),
        (lambda: Workspace(Box((0.0,), (1.0,)), margin=INF), "margin must be at least 0"),
        (lambda: KeepOut((POND,), columns=(0,)), "has 2 columns, `columns` names 1"),
        (lambda: Workspace(Box((0.0,), (1.0,)), columns=(0, 1)), "has 1 columns, `columns` names"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_states_that_do_not_fit_are_refused(rollouts):
    with pytest.raises(ValueError, match="has 2 columns, the imagined states have 3; choose"):
        KeepOut((POND,))(rollouts(states=torch.zeros(1, 1, 3)), None)
    with pytest.raises(ValueError, match="KeepOut needs imagined states"):
        KeepOut((POND,))(rollouts(tokens=torch.zeros(1, 1, 1, 1)), None)
