"""Actions with names, units and bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class ActionSteps:
    """How one action of a world model becomes actions of an environment, one for each step.

    Attributes:
        num_steps: steps of the environment that one action of the model spans.
        way: "one_after_the_other": the model's action is that many actions side by side;
            "repeated": the same action in every step; "in_equal_parts": it is their sum, of which
            every step does its part.

    Raises:
        ValueError: if there is no step.
    """

    num_steps: int = 1
    way: Literal["one_after_the_other", "repeated", "in_equal_parts"] = "one_after_the_other"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def joined(self, spec: ActionSpec) -> ActionSpec:
        """Returns what an action of the model means in an environment of these actions."""
        steps = self.num_steps
        if steps == 1 or self.way == "repeated":
            return spec
        if self.way == "in_equal_parts":
            low, high = (tuple(steps * bound for bound in side) for side in (spec.low, spec.high))
            return ActionSpec(spec.names, spec.units, low, high)
        names = tuple(f"{name}@{step}" for step in range(steps) for name in spec.names)
        return ActionSpec(names, spec.units * steps, spec.low * steps, spec.high * steps)

    def split(self, actions: Tensor) -> Tensor:
        """Returns the environment's actions of a plan; the inverse of joining them.

        Args:
            actions: (horizon, dimension of the model's action).

        Returns:
            (horizon * num_steps, dimension of the environment's action).
        """
        if self.way == "one_after_the_other":
            return actions.reshape(len(actions) * self.num_steps, -1)
        parts = actions / self.num_steps if self.way == "in_equal_parts" else actions
        return parts.repeat_interleave(self.num_steps, dim=0)
