"""Signed distances by hand: negative inside, zero on the border, growing by one a unit outside."""

import math

import pytest
import torch

from planning.costs import Box, Disc

BOX = Box((0.0, 0.0), (4.0, 2.0))
DISC = Disc((1.0, 1.0), 2.0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ((2.0, 1.0), -1),  # the middle: 1 from the nearest side
        ((0.5, 1.0), -0.5),
        ((4.0, 1.0), 0),
        ((0.0, 0.0), 0),
        ((6.0, 1.0), 2),
        ((2.0, -3.0), 3),
        ((7.0, 6.0), 5),  # from a corner
    ],
)
def test_a_box_by_hand(state, expected):
    assert BOX.signed_distance(torch.tensor(state)).item() == pytest.approx(expected)


@pytest.mark.parametrize(("state", "expected"), [((1, 1), -2), ((3, 1), 0), ((4, 5), 3)])
def test_a_disc_by_hand(state, expected):
    assert DISC.signed_distance(torch.tensor(state).float()).item() == pytest.approx(expected)


def test_a_side_without_a_bound_is_open():
    above = Box((-math.inf, 3.0), (math.inf, math.inf))
    states = torch.tensor([[1e6, 2.0], [-1e6, 5.0]])
    assert above.signed_distance(states).tolist() == [1, -2]


@pytest.mark.parametrize("region", [BOX, DISC], ids=["box", "disc"])
def test_a_distance_changes_by_at_most_the_way_gone_and_has_that_gradient(region):
    generator = torch.Generator().manual_seed(0)
    states = (8 * torch.randn(200, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    region.signed_distance(states).sum().backward()
    assert torch.allclose(states.grad.norm(dim=-1), torch.ones(200).double())


@pytest.mark.parametrize("region", [BOX, DISC], ids=["box", "disc"])
def test_gradients_are_those_of_finite_differences(
    region, assert_gradient_is_that_of_finite_differences
):
    assert_gradient_is_that_of_finite_differences(region.signed_distance, 5, 2)


@pytest.mark.parametrize("region", [BOX, DISC], ids=["box", "disc"])
def test_an_unknown_state_is_at_no_distance(region):
    assert region.signed_distance(torch.tensor([float("nan"), 1.0])).isnan()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box((0.0,), (0.0,)), r"low < high in every column, got \(0.0,\) and \(0.0,\)"),
        (lambda: Box((0.0, 1.0), (1.0,)), "low < high in every column"),
        (lambda: Box((float("nan"),), (1.0,)), "low < high in every column"),
        (lambda: Box((), ()), "low < high in every column"),
        (lambda: Box((-math.inf,), (math.inf,)), "this one is everywhere"),
        (lambda: Disc((0.0,), 0.0), "positive, finite radius, got"),
        (lambda: Disc((float("nan"),), 1.0), "finite center"),
        (lambda: Disc((), 1.0), "finite center"),
    ],
)
def test_regions_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
