"""From steps to a rollout, by hand and at the limits."""

import pytest
import torch

from planning.costs import Discounted
from planning.costs.reductions import (
    over_steps,
    refuse_other_penalty_reductions,
    refuse_other_reductions,
)

STEPS = torch.tensor([[4.0, 1.0, 1.0], [0.0, 3.0, 0.0]])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", [2, 1]),
        ("last", [1, 0]),
        ("max", [4, 3]),
        (Discounted(0.5), [16 / 7 + 2 / 7 + 1 / 7, 6 / 7]),
    ],
)
def test_reductions_by_hand(reduction, expected):
    assert over_steps(STEPS, reduction).tolist() == pytest.approx(expected)


def test_no_discount_is_the_mean_and_a_great_one_leaves_the_first_step():
    assert torch.allclose(over_steps(STEPS, Discounted(1.0)), over_steps(STEPS, "mean"))
    assert torch.allclose(over_steps(STEPS, Discounted(1e-8)), STEPS[:, 0], atol=1e-6)


@pytest.mark.parametrize("gamma", [0.01, 0.5, 0.99, 1.0])
def test_the_weights_of_the_steps_add_up_to_one_and_never_rise(gamma):
    weights = Discounted(gamma).weights(torch.zeros(2, 6))
    assert weights.sum().item() == pytest.approx(1)
    assert (weights.diff() <= 0).all()


@pytest.mark.parametrize("reduction", ["mean", "last", "max", Discounted(0.5)])
def test_a_step_that_counts_and_is_nan_makes_nan(reduction):
    assert over_steps(torch.tensor([1.0, float("nan")]), reduction).isnan()


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.01, float("nan")])
def test_a_discount_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match=r"gamma must be in \(0, 1\], got"):
        Discounted(gamma)


def test_other_reductions_are_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'last', got 'max'"):
        refuse_other_reductions("max")
    with pytest.raises(ValueError, match="reduction must be 'mean', 'max' or 'last', got 'sum'"):
        refuse_other_penalty_reductions("sum")
    for reduction in ("mean", "last", Discounted(0.5)):
        refuse_other_reductions(reduction)
