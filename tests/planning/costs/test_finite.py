"""What cannot be compared is ruled out, and nothing else."""

import pytest
import torch

from planning.costs import finite_costs, trusted_costs
from planning.safety.safe_stop import SafeStop


def test_costs_that_are_not_finite_become_infinite_and_the_others_stay():
    costs = torch.tensor([2.0, float("nan"), -1.0, float("inf"), float("-inf")])
    expected = [2.0, float("inf"), -1.0, float("inf"), float("inf")]
    assert finite_costs(costs).tolist() == expected


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_costs_of_which_none_is_finite_are_an_error(value):
    with pytest.raises(FloatingPointError, match="all 3 imagined costs are NaN or infinite"):
        finite_costs(torch.tensor([value, value, float("inf")]))


def test_constraints_that_rule_out_everything_are_called_so():
    with pytest.raises(FloatingPointError, match=r"all 3 .* infinite: constraints rule out every"):
        finite_costs(torch.full((3,), float("inf")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_best_of_hardly_any_finite_cost_is_no_choice(value):
    """Seen to fail without the count: the one finite cost of 32 is then a plan."""
    costs = torch.full((32,), value)
    costs[0] = 1.0
    with pytest.raises(SafeStop, match="only 1 of 32 imagined costs are finite, at least 2"):
        trusted_costs(costs)
    costs[1] = 2.0
    assert trusted_costs(costs)[:2].tolist() == [1.0, 2.0]
