"""Regions of state space, by their signed distance: negative inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Region(Protocol):
    """A part of state space."""

    @property
    def dim(self) -> int:
        """Number of state columns that it is in."""
        ...

    def signed_distance(self, states: Tensor) -> Tensor:
        """Returns how far states (..., dim) are from the border, (...): negative inside."""
        ...


@dataclass(frozen=True)
class Box:
    """All states between two corners. An infinite bound leaves a side open.

    Args:
        low: least value of each column.
        high: greatest value of each column.

    Raises:
        ValueError: unless low is below high in every column, and some bound is finite.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sides = zip(self.low, self.high, strict=False)
        if len(self.low) != len(self.high) or not self.low or not all(a < b for a, b in sides):
            raise ValueError(
                f"a box needs low < high in every column, got {self.low} and {self.high}"
            )
        if not any(map(math.isfinite, self.low + self.high)):
            raise ValueError("a box needs at least one finite bound, this one is everywhere")

    @property
    def dim(self) -> int:
        """See `Region.dim`."""
        return len(self.low)

    def signed_distance(self, states: Tensor) -> Tensor:
        """See `Region.signed_distance`."""
        low, high = states.new_tensor(self.low), states.new_tensor(self.high)
        beyond = torch.maximum(low - states, states - high)  # (..., dim), negative inside
        outside = torch.linalg.vector_norm(beyond.clamp_min(0), dim=-1)
        return outside + beyond.amax(-1).clamp_max(0)


@dataclass(frozen=True)
class Disc:
    """All states within a radius: a disc, a ball.

    Args:
        center: of it.
        radius: of it, in the unit of the states.

    Raises:
        ValueError: if a number is not finite, or the radius is not positive.
    """

    center: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        is_finite = all(map(math.isfinite, self.center))
        if not self.center or not is_finite or not 0 < self.radius < math.inf:
            raise ValueError(
                "a disc needs a finite center and a positive, finite radius, got "
                f"{self.center} and {self.radius}"
            )

    @property
    def dim(self) -> int:
        """See `Region.dim`."""
        return len(self.center)

    def signed_distance(self, states: Tensor) -> Tensor:
        """See `Region.signed_distance`."""
        offset = states - states.new_tensor(self.center)
        return torch.linalg.vector_norm(offset, dim=-1) - self.radius
