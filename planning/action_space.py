"""Actions with names, units and bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ActionSpec:
    """What one action means and how large it may be.

    Attributes:
        names: one name per dimension, for example ("dx", "dy").
        units: the unit of each dimension, for example ("pixel/step", "pixel/step").
        low: smallest allowed value of each dimension, in that unit.
        high: largest allowed value of each dimension.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1 or not self.names:
            raise ValueError(
                f"names, units, low and high must have the same length >= 1, got "
                f"{len(self.names)}, {len(self.units)}, {len(self.low)} and {len(self.high)}"
            )
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    f"action {name!r} needs finite bounds with low < high, got [{low}, {high}]"
                )

    @property
    def dim(self) -> int:
        """Number of action dimensions."""
        return len(self.names)

    def bounds(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (low, high), each (action_dim,), with the dtype and device of `reference`."""
        return reference.new_tensor(self.low), reference.new_tensor(self.high)

    def clip(self, actions: Tensor) -> Tensor:
        """Clamps actions (..., action_dim) into the bounds."""
        low, high = self.bounds(actions)
        return torch.minimum(torch.maximum(actions, low), high)

    def sample(self, generator: np.random.Generator) -> np.ndarray:
        """Draws one action (action_dim,) float32, uniform inside the bounds."""
        return generator.uniform(self.low, self.high).astype(np.float32)

    def validate(self, action: np.ndarray) -> np.ndarray:
        """Returns `action` as (action_dim,) float32 inside the bounds.

        Raises:
            ValueError: if the shape is wrong or a value is not finite. A NaN passes through
                clamping, so it is refused here, before it can reach an actuator.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (self.dim,):
            raise ValueError(f"action must have shape ({self.dim},), got {action.shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, got {action.tolist()}")
        return np.clip(action, np.array(self.low, np.float32), np.array(self.high, np.float32))
