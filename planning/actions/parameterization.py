"""What a planner chooses of a sequence: every action, or a few from which the others follow.

A parameterisation is linear: actions = weights @ choices, with weights (horizon, choices). Fewer
choices make a smaller problem and smoother plans. Several steps of an environment in one action of
the model are another matter: see `planning.actions.space.ActionSteps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from planning.actions.splines import SplineOrder, spline_weights, spread_knots


class Parameterization(ABC):
    """How few choices become many actions."""

    @abstractmethod
    def first_steps(self, horizon: int) -> tuple[int, ...]:
        """Returns the step of the plan at which each choice is executed (first), increasing.

        Raises:
            ValueError: if the horizon is too short for it.
        """
        ...

    @abstractmethod
    def weights(self, horizon: int) -> Tensor:
        """Returns (horizon, choices), float64, of full column rank: actions = weights @ choices.

        Raises:
            ValueError: if the horizon is too short for it.
        """
        ...


@dataclass(frozen=True)
class PerStep(Parameterization):
    """Every action is chosen by itself."""

    def first_steps(self, horizon: int) -> tuple[int, ...]:
        """Returns every step."""
        return tuple(range(horizon))

    def weights(self, horizon: int) -> Tensor:
        """Returns the identity."""
        return torch.eye(horizon, dtype=torch.float64)


PER_STEP = PerStep()


@dataclass(frozen=True)
class Repeat(Parameterization):
    """Each chosen action is held for some steps; the last one for what is left of the plan.

    Args:
        num_steps: steps that an action is held for.
    """

    num_steps: int

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def first_steps(self, horizon: int) -> tuple[int, ...]:
        """Returns every num_steps-th step."""
        return tuple(range(0, horizon, self.num_steps))

    def weights(self, horizon: int) -> Tensor:
        """Returns ones where an action is held."""
        held = torch.arange(horizon) // self.num_steps
        return torch.eye(len(self.first_steps(horizon)), dtype=torch.float64)[held]


@dataclass(frozen=True)
class SplineKnots(Parameterization):
    """Actions on a spline through chosen knots, which are spread evenly from first to last step.

    Args:
        num_knots: chosen actions, from 1 (the same action in all steps) to the horizon.
        order: "linear", "cubic" (natural) or "monotone", see `spline_weights`. The natural cubic
            may swing over the bounds between knots; what is outside is clipped when the actions are
            made. The others never do.
    """

    num_knots: int
    order: SplineOrder = "cubic"

    def __post_init__(self) -> None:
        if self.num_knots < 1:
            raise ValueError(f"num_knots must be at least 1, got {self.num_knots}")
        if self.order not in get_args(SplineOrder):
            allowed = ", ".join(map(repr, get_args(SplineOrder)))
            raise ValueError(f"order must be one of {allowed}, got {self.order!r}")

    def first_steps(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps of the knots."""
        return spread_knots(self.num_knots, horizon)

    def weights(self, horizon: int) -> Tensor:
        """Returns how much of each knot is in each step."""
        return spline_weights(self.first_steps(horizon), horizon, order=self.order)
