"""Narrower limits than those of the environment: for a careful first run, or a worn robot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from planning.actions.limits import StepBounds
from planning.actions.space import ActionSpec
from planning.types import Environment, TimeStep


@dataclass(frozen=True)
class ActionLimits:
    """What actions are to keep besides the limits of the environment, by names of dimensions.

    Attributes:
        bounds: (low, high) of a dimension, in its unit; infinite where the environment's bound
            shall stay.
        max_change: largest change from one step of the environment to the next, in its unit.

    Raises:
        ValueError: if a number is NaN, a change is not above 0, or bounds leave nothing.
    """

    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_change: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in self.bounds.items():
            if not low < high:
                raise ValueError(f"the limits of {name!r} must be low < high, got {low:g}:{high:g}")
        for name, change in self.max_change.items():
            if not change > 0:
                raise ValueError(f"the largest change of {name!r} must be above 0, got {change:g}")

    def __bool__(self) -> bool:
        """Whether they limit anything."""
        return bool(self.bounds or self.max_change)

    def of(self, spec: ActionSpec) -> ActionSpec:
        """Returns a spec whose actions keep these limits and its own.

        Raises:
            ValueError: if there is no such dimension, if it cannot be limited (choices, and
                grippers that are open or closed), or if a limit is wider than the environment's.
        """
        if not self:
            return spec
        _refuse_dimensions_without_limits(spec, [*self.bounds, *self.max_change])
        given = [self.bounds.get(name, (-math.inf, math.inf)) for name in spec.names]
        for name, least, (low, high), greatest in zip(
            spec.names, spec.low, given, spec.high, strict=True
        ):
            _refuse_wider(name, low, high, least=least, greatest=greatest)
        low = tuple(max(a, b) for (a, _), b in zip(given, spec.low, strict=True))
        high = tuple(min(a, b) for (_, a), b in zip(given, spec.high, strict=True))
        bounds = tuple(_inside(part, low, high) for part in spec.step_bounds)
        change = self._changes(spec)
        return replace(spec, low=low, high=high, max_change=change, step_bounds=bounds)

    def _changes(self, spec: ActionSpec) -> tuple[float, ...] | None:
        if not self.max_change:
            return spec.max_change
        before = spec.max_change or (math.inf,) * spec.dim
        asked = [self.max_change.get(name, math.inf) for name in spec.names]
        return tuple(min(pair) for pair in zip(asked, before, strict=True))


NO_LIMITS = ActionLimits()


class LimitedActions:
    """An environment whose actions keep narrower limits; everything else is the environment's.

    Args:
        environment: does everything.
        limits: besides its own.

    Attributes:
        action_spec: the environment's, within the limits.

    Raises:
        ValueError: if the limits do not fit the environment.
    """

    def __init__(self, environment: Environment, limits: ActionLimits) -> None:
        self._environment = environment
        self.action_spec = limits.of(environment.action_spec)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Returns what the environment has."""
        return getattr(self._environment, name)

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode."""
        return self._environment.reset(generator, start=start, goal=goal)

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once, by an action that keeps the bounds; what is beyond them is clipped.

        `max_change` is the affair of who knows the action before: the policy and its loop.
        """
        return self._environment.step(self.action_spec.validate(action))


def _inside(bounds: StepBounds, low: tuple[float, ...], high: tuple[float, ...]) -> StepBounds:
    """Returns bounds of single steps inside others."""
    return replace(
        bounds,
        low=tuple(map(max, bounds.low, low)),
        high=tuple(map(min, bounds.high, high)),
    )


def _refuse_dimensions_without_limits(spec: ActionSpec, names: list[str]) -> None:
    if spec.kind == "one_hot":
        raise ValueError(
            f"actions here are choices ({', '.join(spec.names)}), which have no limits; leave "
            f"{', '.join(names)} out"
        )
    unknown = [name for name in names if name not in spec.names]
    if unknown:
        raise ValueError(
            f"there is no action dimension {unknown[0]!r} to limit; there are: "
            f"{', '.join(spec.names)}"
        )
    binary = {gripper.name for gripper in spec.grippers if gripper.way == "binary"}
    for name in names:
        if name in binary:
            raise ValueError(f"the gripper {name!r} is open or closed, so it cannot be limited")


def _refuse_wider(name: str, low: float, high: float, *, least: float, greatest: float) -> None:
    """Raises ValueError if finite limits are not inside the environment's bounds."""
    if (math.isfinite(low) and low < least) or (math.isfinite(high) and high > greatest):
        raise ValueError(
            f"the limits {low:g}:{high:g} of {name!r} are wider than the environment's, "
            f"{least:g}:{greatest:g}; limits can only be tightened"
        )
    if low >= greatest or high <= least:
        raise ValueError(
            f"the limits {low:g}:{high:g} of {name!r} leave nothing of the environment's "
            f"{least:g}:{greatest:g}"
        )
