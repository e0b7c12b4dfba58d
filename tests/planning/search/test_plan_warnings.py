"""What a plan warns of, and of what it does not."""

import pytest
import torch

from planning.search.plan_warnings import contrast, plan_warnings

FINE = {"saturation": 0.2, "num_ruled_out": 3, "num_rollouts": 100, "first_contrast": 0.3}


def test_a_plan_without_a_fault_has_no_warnings():
    assert plan_warnings(**FINE) == ()
    assert plan_warnings(**{**FINE, "first_contrast": None}) == ()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"saturation": 0.75}, "saturation: 75% of the plan lies at the bounds"),
        ({"num_ruled_out": 51}, "ruled out: 51 of 100 candidates had a NaN or infinite cost"),
        ({"first_contrast": 2e-5}, "flat landscape: the costs of the first candidates differ"),
        ({"first_contrast": 0.0}, "flat landscape"),
    ],
)
def test_each_fault_is_one_line(fault, line):
    (warning,) = plan_warnings(**{**FINE, **fault})
    assert warning.startswith(line)
    assert "\n" not in warning


def test_several_faults_are_several_lines():
    faults = {"saturation": 1.0, "num_ruled_out": 90, "first_contrast": 1e-6}
    assert len(plan_warnings(**{**FINE, **faults})) == 3


def test_half_is_not_more_than_half():
    assert plan_warnings(**{**FINE, "saturation": 0.5, "num_ruled_out": 50}) == ()


def test_contrast_is_the_spread_over_the_mean_size_of_finite_costs():
    costs = torch.tensor([1.0, 3.0, torch.inf, torch.nan])
    assert contrast(costs) == pytest.approx(0.5)
    assert contrast(-costs) == pytest.approx(0.5)
    assert contrast(7 * costs) == pytest.approx(0.5)


def test_one_cost_has_no_contrast_and_equal_ones_have_none_at_all():
    assert contrast(torch.tensor([1.0, torch.inf])) is None
    assert contrast(torch.tensor([2.0, 2.0])) == 0
    assert contrast(torch.zeros(3)) == 0
