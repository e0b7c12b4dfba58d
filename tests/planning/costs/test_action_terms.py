"""Size and change of actions, by hand."""

import pytest
import torch

from planning.costs import ActionChange, ActionSize

ACTIONS = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [3.0, 2.0]], [[2.0, 2.0]] * 3])


def test_size_by_hand():
    assert ActionSize()(None, ACTIONS).tolist() == pytest.approx([(1 + 9 + 9 + 4) / 6, 4])


def test_size_in_other_units_by_hand():
    costs = ActionSize(torch.tensor([1.0, 2.0]))(None, ACTIONS)
    assert costs.tolist() == pytest.approx([(1 + 9 + 9 + 1) / 6, (4 + 1) / 2])


def test_first_differences_by_hand():
    assert ActionChange()(None, ACTIONS).tolist() == [(4 + 4) / 4, 0]


def test_second_differences_by_hand():
    # Of (2, 0) and (0, 2): (-2, 2).
    assert ActionChange(order=2)(None, ACTIONS).tolist() == [(4 + 4) / 2, 0]


def test_differences_from_the_actions_executed_last_by_hand():
    executed = torch.tensor([[99.0, 99.0], [1.0, 2.0]])
    costs = ActionChange(executed=executed)(None, ACTIONS)
    # The first plan begins with a change of (0, -2), the second with one of (1, 0).
    assert costs.tolist() == pytest.approx([(4 + 4 + 4) / 6, 1 / 6])


def test_the_jerk_takes_the_last_two_executed_actions():
    executed = torch.tensor([[99.0, 99.0], [0.0, 0.0], [1.0, 1.0]])
    going_on = torch.tensor([[[2.0, 2.0], [3.0, 3.0]]])  # the same change again and again
    assert ActionChange(2, executed)(None, going_on).tolist() == [0]
    stopping = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    assert ActionChange(2, executed)(None, stopping).tolist() == [1 / 2]


def test_scaling_actions_and_units_alike_changes_nothing():
    unit = torch.tensor([1.0, 1.0])
    for cost, scaled in (
        (ActionSize(unit), ActionSize(5 * unit)),
        (ActionChange(2, ACTIONS[0], unit), ActionChange(2, 5 * ACTIONS[0], 5 * unit)),
    ):
        assert torch.allclose(scaled(None, 5 * ACTIONS), cost(None, ACTIONS))


@pytest.mark.parametrize("order", [1, 2])
def test_a_plan_too_short_for_a_change_costs_nothing_but_nan_stays_nan(order):
    one_step = torch.tensor([[[3.0]], [[float("nan")]]])
    costs = ActionChange(order)(None, one_step)
    assert costs[0] == 0
    assert costs[1].isnan()


@pytest.mark.parametrize(
    "cost",
    [ActionSize(), ActionChange(), ActionChange(2), ActionChange(2, torch.randn(2, 2))],
    ids=["size", "change", "jerk", "jerk after others"],
)
def test_gradients_are_those_of_finite_differences(
    cost, assert_gradient_is_that_of_finite_differences
):
    assert_gradient_is_that_of_finite_differences(lambda actions: cost(None, actions), 2, 4, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionSize(torch.tensor([1.0, 0.0])), "positive and finite, got"),
        (lambda: ActionSize(torch.tensor([[1.0]])), r"scale must be \(action_dim,\)"),
        (lambda: ActionChange(scale=torch.tensor([float("inf")])), "positive and finite"),
        (lambda: ActionChange(order=3), "order must be 1 or 2, got 3"),
        (lambda: ActionChange(executed=torch.zeros(2)), r"\(steps, action_dim\), got \(2,\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_actions_of_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="scale has 3 dimensions, the actions have 2"):
        ActionSize(torch.ones(3))(None, ACTIONS)
    with pytest.raises(ValueError, match="executed actions have 3 dimensions, the planned ones 2"):
        ActionChange(executed=torch.ones(1, 3))(None, ACTIONS)
