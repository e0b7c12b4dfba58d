"""Distances to a goal state, by hand."""

import math

import pytest
import torch

from planning.costs import L2, StateDistance, StateUnits
from planning.types import Latent

UNITS = StateUnits(torch.tensor([10.0, 20.0]), torch.tensor([2.0, 4.0]))
STATES = [[[0.0, 0.0], [1.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]]
NORMALISED_GOAL = torch.tensor([1.0, 1.0])


def test_normalised_states_by_hand(rollouts):
    cost = StateDistance(NORMALISED_GOAL)
    assert cost.per_step(rollouts(states=STATES)).tolist() == [[1, 0.5], [1.5, 1]]
    assert cost(rollouts(states=STATES), None).tolist() == [0.5, 1]


def test_raw_states_by_hand(rollouts):
    cost = StateDistance(torch.tensor([12.0, 24.0]), units=UNITS, reduction="mean")
    # Raw states (10, 20) (12, 28); (16, 20) (10, 20).
    assert cost(rollouts(states=STATES), None).tolist() == [(3 + 2) / 2, (4 + 3) / 2]


def test_chosen_columns_and_another_distance_by_hand(rollouts):
    cost = StateDistance(torch.tensor([3.0]), columns=(1,), distance=L2())
    assert cost(rollouts(states=STATES), None).tolist() == [1, 3]


def test_no_column_counts_that_was_not_chosen(rollouts):
    cost = StateDistance(torch.tensor([1.0]), columns=(0,))
    changed = torch.tensor(STATES)
    changed[..., 1] += 100
    assert torch.equal(cost(rollouts(states=changed), None), cost(rollouts(states=STATES), None))


PERIODS = torch.tensor([torch.inf, 2 * torch.pi])


def test_of_an_angle_the_shorter_way_round_counts(rollouts):
    """From 3.1 to -3.1 it is 2 pi - 6.2, not 6.2; and a whole turn is nothing."""
    goal, turn = torch.tensor([1.0, -3.1]), 2 * math.pi
    states = [[[1.0, 3.1], [3.0, -3.1 + turn], [1.0, 0.0], [1.0, -3.1 - 3 * turn + 0.5]]]
    cost = StateDistance(goal, periods=PERIODS, reduction="mean")
    expected = [(turn - 6.2) / 2, 1.0, 1.55, 0.25]
    assert cost.per_step(rollouts(states=states))[0].tolist() == pytest.approx(expected, abs=1e-5)
    plain = StateDistance(goal)
    assert plain.per_step(rollouts(states=states))[0, 0].item() == pytest.approx(3.1)


def test_an_angle_that_is_no_number_stays_none(rollouts):
    cost = StateDistance(torch.zeros(2), periods=PERIODS)
    for broken in ([float("nan"), 0.0], [0.0, float("nan")], [0.0, float("inf")]):
        assert cost(rollouts(states=[[broken]]), None).isnan().all()


def test_the_gradient_of_an_angle_goes_the_shorter_way(
    rollouts, assert_gradient_is_that_of_finite_differences
):
    states = torch.tensor([[[0.0, 3.1]]], requires_grad=True)
    cost = StateDistance(torch.tensor([0.0, -3.1]), periods=PERIODS)
    cost(Latent(torch.ones(1, 1, 1, 1), states), None).sum().backward()
    assert states.grad.flatten().tolist() == [0.0, -0.5]  # on over pi, not back through 0
    smooth = StateDistance(torch.zeros(2).double(), periods=PERIODS, distance=L2())
    assert_gradient_is_that_of_finite_differences(
        lambda states: smooth(rollouts(states=4 * states, dtype=torch.float64), None), 2, 3, 2
    )


def test_its_gradient_is_that_of_finite_differences(
    rollouts, assert_gradient_is_that_of_finite_differences
):
    cost = StateDistance(torch.zeros(2).double(), units=UNITS, distance=L2(), reduction="mean")
    assert_gradient_is_that_of_finite_differences(
        lambda states: cost(rollouts(states=states, dtype=torch.float64), None), 2, 3, 2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": torch.zeros(1, 2)}, r"goal state must be \(columns,\), got \(1, 2\)"),
        ({"columns": (0,)}, r"goal state must be \(1,\), got \(2,\)"),
        ({"goal": torch.tensor([0.0, float("nan")])}, "goal state must be finite"),
        ({"reduction": "max"}, "reduction must be 'mean' or 'last', got 'max'"),
        (
            {"periods": torch.tensor([1.0, 0.0])},
            r"periods must be \(2,\), positive .* got \[1.0, 0",
        ),
        ({"periods": torch.tensor([6.28])}, r"periods must be \(2,\), positive"),
        ({"periods": torch.tensor([1.0, float("nan")])}, "periods must be .* nan"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StateDistance(**{"goal": NORMALISED_GOAL, **options})


def test_a_goal_of_other_columns_is_refused(rollouts):
    with pytest.raises(ValueError, match="goal state has 2 columns, the imagined states have 3"):
        StateDistance(NORMALISED_GOAL)(rollouts(states=torch.zeros(1, 2, 3)), None)
