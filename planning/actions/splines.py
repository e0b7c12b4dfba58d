"""Splines through knots, as weights: what a spline is at a step is linear in its knots.

Monotone splines are usually made with slopes that depend on the knots (Fritsch and Carlson), so
they are not linear in them: no weights, no least squares for a warm start, no standard deviation of
the actions. With slopes of 0 at all knots they are linear, and stay between neighbouring knots all
the same: that is "monotone" here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

SplineOrder = Literal["linear", "cubic", "monotone"]


def spread_knots(num_knots: int, num_steps: int) -> tuple[int, ...]:
    """Returns the steps of the knots: evenly spread and rounded, from the first step to the last.

    One knot is at step 0. A knot is at a step, never between two, so that the spline takes the
    value of every knot somewhere.

    Raises:
        ValueError: if there is no knot, or more knots than steps.
    """
    if not 1 <= num_knots <= num_steps:
        raise ValueError(
            f"num_knots must be from 1 to the horizon {num_steps}, got {num_knots}: "
            "each knot is at a step (of the environment) of its own"
        )
    if num_knots == 1:
        return (0,)
    last_step, last_knot = num_steps - 1, num_knots - 1
    return tuple((2 * knot * last_step + last_knot) // (2 * last_knot) for knot in range(num_knots))


def spline_weights(knots: Sequence[int], num_steps: int, *, order: SplineOrder) -> Tensor:
    """Returns the weights (steps, knots), float64, by which knots become values at steps.

    Each row sums to 1, and at a knot it picks that knot. With one knot all steps are equal to it;
    with two, "linear" and "cubic" are the straight line.

    Args:
        knots: steps of the knots, increasing, the first 0 and, if there are several, the last
            num_steps - 1.
        num_steps: steps.
        order: "linear": straight lines between neighbours, so a value is never outside those of
            its neighbours. "cubic": the natural cubic spline (no curvature at both ends): smooth,
            but it may swing over between knots. "monotone": cubic with slope 0 at every knot: it
            rises or falls from knot to knot and is never outside of them, but rests at each.
    """
    count = len(knots)
    if count == 1:
        return torch.ones(num_steps, 1, dtype=torch.float64)
    places = torch.tensor(knots, dtype=torch.float64)
    steps = torch.arange(num_steps, dtype=torch.float64)
    left = (torch.bucketize(steps, places, right=True) - 1).clamp(0, count - 2)  # (steps,)
    width = (places[left + 1] - places[left]).unsqueeze(1)  # (steps, 1)
    share = (steps - places[left]).unsqueeze(1) / width  # of the way to the next knot
    if order == "monotone":
        share = share**2 * (3 - 2 * share)
    picks = torch.eye(count, dtype=torch.float64)
    weights = (1 - share) * picks[left] + share * picks[left + 1]
    if order != "cubic":
        return weights
    bends = _natural_curvatures(places)
    from_left, from_right = (1 - share) ** 3 - (1 - share), share**3 - share
    return weights + width**2 / 6 * (from_left * bends[left] + from_right * bends[left + 1])


def _natural_curvatures(places: Tensor) -> Tensor:
    """Returns (knots, knots): second derivatives at the knots, linear in the values there.

    They make the first derivative continuous, and are 0 at both ends.
    """
    count = len(places)
    widths = places.diff()
    system, slopes = (torch.zeros(count, count, dtype=torch.float64) for _ in range(2))
    system[0, 0] = system[-1, -1] = 1
    for knot in range(1, count - 1):
        before, after = widths[knot - 1], widths[knot]
        system[knot, knot - 1 : knot + 2] = torch.stack(
            [before / 6, (before + after) / 3, after / 6]
        )
        slopes[knot, knot - 1 : knot + 2] = torch.stack(
            [1 / before, -1 / before - 1 / after, 1 / after]
        )
    return torch.linalg.solve(system, slopes)
