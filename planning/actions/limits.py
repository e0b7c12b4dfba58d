"""Limits of actions beyond their bounds: norms, grippers, bounds of single steps, and projections.

All projections are batched, differentiable where what they compute is (a snap passes its gradient
on as if it had not happened), and change nothing that is already inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class NormLimit:
    """How long a part of an action may be, for example the translation of a hand.

    Attributes:
        names: the dimensions of this part; no dimension is part of two.
        max_norm: greatest norm, in their unit.
        order: 2: Euclidean length; 1: sum of absolute values. (The greatest absolute value is
            what low and high limit: the box of the released V-JEPA 2-AC planner, +-0.075 m for
            each of x, y and z, whose corners are 0.13 m away.)

    Raises:
        ValueError: if no dimension is named, or the norm is not positive and finite.
    """

    names: tuple[str, ...]
    max_norm: float
    order: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"a norm limit needs different dimensions, got {self.names}")
        if not 0 < self.max_norm < math.inf:
            raise ValueError(
                f"max_norm of {self.names} must be positive and finite, got {self.max_norm}"
            )
        if self.order not in (1, 2):
            raise ValueError(f"order of the norm of {self.names} must be 1 or 2, got {self.order}")


@dataclass(frozen=True)
class Gripper:
    """A dimension that a gripper understands only in part; without this it is continuous.

    DROID records how far a gripper is closed, from 0 (open) to 1 (closed), and an action of V-JEPA
    2-AC is the *change* of that from one frame to the next, in [-1, 1]: positive closes. The
    released planner keeps it in [-0.75, 0.75] and does nothing where it is below 0.25 in size:
    that is a dead zone with threshold 0.25.

    Attributes:
        name: the dimension.
        way: "binary": only its low and its high exist (open and closed): high from the threshold
            on. "dead_zone": below the threshold, in size, it is 0.
        threshold: in the unit of the dimension; None for the middle of a binary one's bounds.

    Raises:
        ValueError: if a dead zone has no positive threshold.
    """

    name: str
    way: Literal["binary", "dead_zone"] = "binary"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.way not in ("binary", "dead_zone"):
            raise ValueError(
                f"gripper {self.name!r} must be 'binary' or 'dead_zone', got {self.way!r}"
            )
        is_dead_zone = self.way == "dead_zone"
        if is_dead_zone and not (self.threshold is not None and 0 < self.threshold < math.inf):
            raise ValueError(
                f"the dead zone of gripper {self.name!r} needs a positive threshold, "
                f"got {self.threshold}"
            )

    def snapped(self, values: Tensor, low: float, high: float) -> Tensor:
        """Returns the nearest values that the gripper understands, of any shape.

        Args:
            values: inside the bounds.
            low: least value of the dimension.
            high: greatest value.
        """
        if self.way == "dead_zone":
            assert self.threshold is not None
            snapped = values.masked_fill(values.abs() < self.threshold, 0.0)
        else:
            threshold = (low + high) / 2 if self.threshold is None else self.threshold
            ends = values.new_tensor([low, high])
            snapped = torch.where(values >= threshold, ends[1], ends[0])
        # A NaN must stay one, or it would become an action; the difference is 0 and has the
        # gradient of no snap.
        return snapped.detach() + (values - values.detach())


@dataclass(frozen=True)
class StepBounds:
    """Narrower bounds for a part of the plan, for example a gripper that closes at step 3.

    Attributes:
        first_step: step of the plan (of the environment, from now on) where they begin to hold;
            they hold until the next begin.
        low: smallest value of each dimension; equal to `high` where it is pinned.
        high: greatest value of each dimension.
    """

    first_step: int
    low: tuple[float, ...]
    high: tuple[float, ...]


def within_norm(
    values: Tensor, low: Tensor, high: Tensor, *, max_norm: float, order: Literal[1, 2]
) -> Tensor:
    """Returns the nearest values inside bounds and of at most this norm.

    Nearest in the Euclidean sense among all values that keep both, which is not what clipping and
    then shortening gives.

    Args:
        values: (..., dim), finite.
        low: (..., dim) or broadcast to it; least values.
        high: likewise, greatest values, not below `low`.
        max_norm: greatest norm; where the bounds leave no value so short, the shortest is taken.
        order: of the norm.
    """
    clipped = values.clamp(low, high)
    is_long = clipped.double().norm(order, dim=-1) > max_norm  # (...)
    if not is_long.any():
        return clipped
    # A hair shorter, so that rounding cannot make it too long again.
    radius = max_norm * (1 - 4 * torch.finfo(values.dtype).eps)
    long = values[is_long].double().clamp(-1e30, 1e30)  # squares of more would be infinite
    low, high = (bound.expand_as(values)[is_long].double() for bound in (low, high))
    if order == 2:
        shortened = _scaled_to(long, radius)
        is_free = ((shortened > low) & (shortened < high)).all(-1)
        if not is_free.all():
            meets = ~is_free
            shortened[meets] = _on_sphere(long[meets], low[meets], high[meets], radius)
    else:
        shortened = _on_diamond(long, low, high, radius)
    nearest = clipped.clone()
    nearest[is_long] = _towards_shortest(shortened, low, high, radius, order).to(clipped)
    return nearest


def _scaled_to(values: Tensor, radius: float) -> Tensor:
    """Values of another length, in the same direction; where they meet no bound, the nearest."""
    return values * (radius / values.norm(dim=-1, keepdim=True).clamp_min(1e-300))


def _towards_shortest(
    values: Tensor, low: Tensor, high: Tensor, radius: float, order: Literal[1, 2]
) -> Tensor:
    """Values in bounds, moved to the shortest ones there as far as rounding left them too long.

    Of values that are 10**12 times the norm, differences have lost their digits.
    """
    with torch.no_grad():
        shortest = torch.zeros_like(low).clamp(low, high)
        least, size = (part.norm(order, dim=-1, keepdim=True) for part in (shortest, values))
        share = ((radius - least) / (size - least).masked_fill(size <= least, 1.0)).clamp(0, 1)
    moved = (shortest + share * (values - shortest)).clamp(low, high)
    return torch.where(size > radius, moved, values)


def _on_sphere(values: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """Nearest values in bounds of Euclidean length `radius`: clip(scale * values), scale >= 0.

    The squared length is linear in scale**2 between the scales where a coordinate meets a bound.
    """
    unit = values / values.detach().abs().amax(-1, keepdim=True).clamp_min(1e-100)

    def at(squared_scale: Tensor) -> Tensor:  # (..., points) -> (..., points, dim)
        scaled = squared_scale.sqrt().unsqueeze(-1) * unit.unsqueeze(-2)
        return scaled.clamp(low.unsqueeze(-2), high.unsqueeze(-2))

    with torch.no_grad():
        meets = torch.cat([low / unit, high / unit], dim=-1).nan_to_num(0.0, 1e100, 0.0)
        found = _where_budget_is_met(
            meets.clamp(0, 1e100).square(), lambda t: at(t).square().sum(-1), radius**2
        )
        stopped = at(found).squeeze(-2)
        is_free = (stopped > low) & (stopped < high)
    # Once more, as a formula of the values, for its gradient and the last digits.
    bounded = at(found).squeeze(-2).masked_fill(is_free, 0.0)
    left = (radius**2 - bounded.square().sum(-1, keepdim=True)).clamp_min(0.0)
    length = unit.masked_fill(~is_free, 0.0).square().sum(-1, keepdim=True)
    length = length.masked_fill(length == 0, 1.0)
    scale = (left / length).clamp_min(1e-30).sqrt()
    return torch.where(is_free, (scale * unit).clamp(low, high), bounded)


def _on_diamond(values: Tensor, low: Tensor, high: Tensor, radius: float) -> Tensor:
    """Nearest values in bounds whose sizes add up to `radius`: all sizes less by one number.

    That number is told from the largest size on, so that very large values lose no digits.
    """
    sign = torch.where(values < 0, -1.0, 1.0).to(values)
    behind = values.abs() - values.detach().abs().amax(-1, keepdim=True)  # (..., dim), <= 0

    def at(kept: Tensor) -> Tensor:  # (..., points) -> (..., points, dim)
        sizes = (behind.unsqueeze(-2) + kept.unsqueeze(-1)).clamp_min(0.0)
        return (sign.unsqueeze(-2) * sizes).clamp(low.unsqueeze(-2), high.unsqueeze(-2))

    with torch.no_grad():
        meets = torch.cat([-behind, sign * low - behind, sign * high - behind], dim=-1)
        found = _where_budget_is_met(meets.clamp_min(0.0), lambda t: at(t).abs().sum(-1), radius)
        stopped = at(found).squeeze(-2)
        is_free = (stopped > low) & (stopped < high) & (stopped != 0)
    bounded = at(found).squeeze(-2).masked_fill(is_free, 0.0)
    left = radius - bounded.abs().sum(-1, keepdim=True)
    count = is_free.sum(-1, keepdim=True).clamp_min(1)
    kept = (left - behind.masked_fill(~is_free, 0.0).sum(-1, keepdim=True)) / count
    return torch.where(is_free, (sign * (behind + kept).clamp_min(0.0)).clamp(low, high), bounded)


def _where_budget_is_met(
    places: Tensor, size_at: Callable[[Tensor], Tensor], budget: float
) -> Tensor:
    """Returns (..., 1), where a growing function, linear between `places`, reaches `budget`.

    Args:
        places: (..., points), at least 0.
        size_at: the function, (..., points) -> (..., points).
        budget: its value; 0 is returned where the function is never so small.
    """
    places = torch.cat([torch.zeros_like(places[..., :1]), places], dim=-1).sort(dim=-1).values
    sizes = size_at(places)
    last_inside = ((sizes <= budget).sum(-1, keepdim=True) - 1).clamp(0, places.shape[-1] - 2)
    (left, right), (size_left, size_right) = (
        (part.gather(-1, last_inside), part.gather(-1, last_inside + 1)) for part in (places, sizes)
    )
    rise = size_right - size_left
    share = ((budget - size_left) / rise.masked_fill(rise <= 0, 1.0)).clamp(0, 1)
    return left + share * (right - left)
