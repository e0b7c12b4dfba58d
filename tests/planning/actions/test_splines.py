"""Splines: by hand, and against scipy's."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from planning.actions.splines import spline_weights, spread_knots


@pytest.mark.parametrize(
    ("num_knots", "num_steps", "steps"),
    [
        (1, 5, (0,)),
        (2, 5, (0, 4)),
        (3, 5, (0, 2, 4)),
        (3, 8, (0, 4, 7)),
        (5, 5, (0, 1, 2, 3, 4)),
        (1, 1, (0,)),
    ],
)
def test_knots_are_spread_evenly_from_the_first_step_to_the_last(num_knots, num_steps, steps):
    assert spread_knots(num_knots, num_steps) == steps


def test_every_knot_has_a_step_of_its_own():
    for num_steps in range(1, 30):
        for num_knots in range(1, num_steps + 1):
            knots = spread_knots(num_knots, num_steps)
            assert len(set(knots)) == num_knots == len(knots)
            assert knots == tuple(sorted(knots))
            assert knots[0] == 0
            assert num_knots == 1 or knots[-1] == num_steps - 1


@pytest.mark.parametrize(("num_knots", "num_steps"), [(0, 4), (5, 4)])
def test_no_knot_and_more_knots_than_steps_are_refused(num_knots, num_steps):
    with pytest.raises(ValueError, match=f"from 1 to the horizon {num_steps}, got {num_knots}"):
        spread_knots(num_knots, num_steps)


def test_a_linear_spline_by_hand():
    weights = spline_weights((0, 2, 3), 4, order="linear")
    assert weights.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("order", ["linear", "cubic", "monotone"])
def test_a_spline_goes_through_its_knots_and_keeps_constants(order):
    for num_steps in range(1, 12):
        for num_knots in range(1, num_steps + 1):
            knots = spread_knots(num_knots, num_steps)
            weights = spline_weights(knots, num_steps, order=order)
            assert weights.shape == (num_steps, num_knots)
            eye = torch.eye(num_knots, dtype=torch.float64)
            torch.testing.assert_close(weights[list(knots)], eye, atol=1e-12, rtol=0)
            torch.testing.assert_close(weights.sum(1), torch.ones(num_steps).double())


def test_a_monotone_spline_by_hand_is_half_way_in_the_middle_and_slow_at_its_knots():
    weights = spline_weights((0, 4, 5), 6, order="monotone")
    assert weights[:, 1].tolist() == [0, 5 / 32, 0.5, 27 / 32, 1, 0]  # 3 s^2 - 2 s^3


def test_between_bounded_knots_the_monotone_spline_stays_inside_and_the_natural_one_does_not():
    knots = spread_knots(4, 13)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 4)  # all at a bound
    reached = {
        order: float((spline_weights(knots, 13, order=order) @ corners.T).abs().max())
        for order in ("linear", "cubic", "monotone")
    }
    assert reached["linear"] == reached["monotone"] == 1
    assert reached["cubic"] > 1.1


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.5, 4.0], [3.0, 2.0, 2.0, -1.0]])
def test_between_rising_knots_a_monotone_spline_never_falls(values):
    weights = spline_weights(spread_knots(4, 20), 20, order="monotone")
    steps = (weights @ torch.tensor(values).double()).diff()
    direction = 1 if values[-1] > values[0] else -1
    assert (direction * steps >= -1e-12).all()


def test_two_knots_are_a_straight_line_in_both_orders():
    lines = [spline_weights((0, 4), 5, order=order) for order in ("linear", "cubic")]
    torch.testing.assert_close(lines[0], lines[1])
    assert lines[0][:, 1].tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("num_knots", "num_steps"), [(3, 9), (4, 10), (5, 17), (6, 6)])
def test_the_cubic_is_scipys_natural_spline(num_knots, num_steps):
    knots = spread_knots(num_knots, num_steps)
    values = np.random.default_rng(0).normal(size=(num_knots, 2))
    expected = CubicSpline(knots, values, bc_type="natural")(np.arange(num_steps))
    weights = spline_weights(knots, num_steps, order="cubic")
    np.testing.assert_allclose(weights.numpy() @ values, expected, atol=1e-12)


@pytest.mark.parametrize(("num_knots", "num_steps"), [(2, 5), (4, 10), (5, 17)])
def test_the_monotone_one_is_scipys_hermite_spline_of_slopes_zero(num_knots, num_steps):
    knots = spread_knots(num_knots, num_steps)
    values = np.random.default_rng(0).normal(size=(num_knots, 2))
    expected = CubicHermiteSpline(knots, values, np.zeros_like(values))(np.arange(num_steps))
    weights = spline_weights(knots, num_steps, order="monotone")
    np.testing.assert_allclose(weights.numpy() @ values, expected, atol=1e-12)
