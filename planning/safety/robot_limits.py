"""What holds for whatever is sent to a robot, whoever asked for it; applied last of all."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from planning.actions.space import ActionSpec
from planning.safety.safe_stop import RefusedAction, SafeStop

MAX_BRAKING_STEPS = 1000


@dataclass(frozen=True)
class RobotLimits:
    """Limits besides the bounds of the actions. There is no default: what is not limited says so.

    Attributes:
        max_change: of every action dimension, the largest change from step to step, in its unit;
            infinity (`.inf` in YAML) where there is none.
        workspace: of states, by name: (low, high), in their units. The robot is stopped when it is
            seen outside.
        moved_by: the action dimension, by name of a state of the workspace, that is its
            displacement in one step; such actions are shortened, so early that `max_change` leaves
            room to brake inside.

    Raises:
        ValueError: if a number is NaN, a low is not below its high, or a change is not positive.
    """

    max_change: Mapping[str, float]
    workspace: Mapping[str, tuple[float, float]]
    moved_by: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, change in self.max_change.items():
            if not _is_number(change) or not change > 0:
                raise ValueError(f"max_change of {name!r} must be above 0, got {change!r}")
        for name, sides in self.workspace.items():
            if not _is_interval(sides):
                raise ValueError(
                    f"the workspace of {name!r} must be two finite numbers, low < high, got "
                    f"{sides!r}"
                )
        _refuse_unknown("moved_by", self.moved_by, self.workspace)

    @classmethod
    def load(cls, path: str | Path) -> RobotLimits:
        """Reads a YAML file.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is no YAML, or a key is missing, misspelt, twice or of another kind.
        """
        from planning.benchmarking.strict_reading import read_yaml

        content = read_yaml(Path(path).read_bytes(), where=str(path))
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold limits, one `name: value` a line")
        known = [part.name for part in fields(cls)]
        _refuse_unknown(str(path), content, known)
        for name in ("max_change", "workspace"):
            if name not in content:
                raise ValueError(f"{path} says nothing of {name}; a robot needs limits")
        for name, value in content.items():
            if not isinstance(value, dict):
                raise ValueError(f"{path}: {name} must hold one `name: value` a line")
        return cls(**content)

    def refuse_misfit(self, spec: ActionSpec, state_names: tuple[str, ...]) -> None:
        """Raises ValueError if a dimension is misspelt, or one has no `max_change`."""
        _refuse_unknown("max_change", self.max_change, spec.names)
        _refuse_unknown("workspace", self.workspace, state_names)
        _refuse_unknown("moved_by", self.moved_by.values(), spec.names)
        missing = [name for name in spec.names if name not in self.max_change]
        if missing and spec.kind != "one_hot":
            raise ValueError(
                f"max_change says nothing of {', '.join(missing)}; give a number, or infinity"
            )


class LastFilter:
    """Turns whatever was asked for into what may be sent.

    Args:
        spec: of the actions; its bounds, norms and grippers hold too.
        limits: besides those; None: there are none.
        state_names: of the robot's state.

    Attributes:
        max_change: (action_dim,), from step to step.
        num_changed: actions that were not sent as they were asked for.

    Raises:
        ValueError: if the limits do not fit.
    """

    def __init__(
        self, spec: ActionSpec, limits: RobotLimits | None, state_names: tuple[str, ...]
    ) -> None:
        if not isinstance(spec, ActionSpec):
            raise ValueError(f"a robot without limits is refused: its action_spec is {spec!r}")
        self.num_changed = 0
        self.max_change = np.array(spec.max_change or (math.inf,) * spec.dim)
        if limits is not None and spec.kind != "one_hot":
            limits.refuse_misfit(spec, state_names)
            asked = [limits.max_change[name] for name in spec.names]
            self.max_change = np.minimum(self.max_change, asked)
            spec = replace(spec, max_change=tuple(self.max_change.tolist()))
        self.spec = spec
        self._walls: list[tuple[int, float, float]] = []  # column of the state, low, high
        self._moves: list[tuple[int, int, float, float]] = []  # and before it that of the action
        if limits is None:
            return
        limits.refuse_misfit(spec, state_names)
        for name, (low, high) in limits.workspace.items():
            column = state_names.index(name)
            self._walls.append((column, low, high))
            if name in limits.moved_by:
                action = spec.names.index(limits.moved_by[name])
                self._moves.append((action, column, low, high))

    def __call__(self, action: np.ndarray, *, last: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Returns (action_dim,) float32 inside all limits.

        Args:
            action: what was asked for.
            last: (action_dim,), what was sent last; at first, what stands still.
            state: (state_dim,), where it was seen last.

        Raises:
            RefusedAction: if it is no (action_dim,) finite numbers.
        """
        asked = self._as_numbers(action)
        before = np.asarray(last, np.float64)
        low, high = np.array(self.spec.low), np.array(self.spec.high)
        wanted = np.clip(asked, low, high)
        is_choice = self.spec.kind == "one_hot"
        if not is_choice:
            wanted = np.clip(wanted, before - self.max_change, before + self.max_change)
            self._shorten(wanted, before, state)
        try:
            sent = self.spec.validate(wanted, None if is_choice else before)
        except ValueError as error:  # no choice
            raise RefusedAction(str(error)) from error
        self.num_changed += not np.allclose(sent, asked, rtol=1e-5, atol=1e-7)
        return sent

    def refuse_outside(self, state: np.ndarray) -> None:
        """Raises SafeStop if the robot is seen outside of the workspace."""
        for column, low, high in self._walls:
            slack = 1e-5 * (high - low)  # states are float32
            if not low - slack <= state[column] <= high + slack:
                raise SafeStop(
                    "workspace", f"state {column} is {state[column]:g}, outside {low:g} to {high:g}"
                )

    def _as_numbers(self, action: np.ndarray) -> np.ndarray:
        """Returns float64, so that what float32 cannot hold can be clipped."""
        given = np.asarray(action)
        if given.shape != (self.spec.dim,) or given.dtype.kind not in "fiub":
            raise RefusedAction(
                f"action must be ({self.spec.dim},) numbers, got {given.shape} {given.dtype}"
            )
        if not np.isfinite(given).all():
            raise RefusedAction(f"action must be finite, got {given.tolist()}")
        return given.astype(np.float64)

    def _shorten(self, wanted: np.ndarray, before: np.ndarray, state: np.ndarray) -> None:
        """Shortens displacements that lead out of the workspace; no faster than it may brake."""
        for action, column, low, high in self._moves:
            change = float(self.max_change[action])
            most = longest_step(high - float(state[column]), change)
            least = -longest_step(float(state[column]) - low, change)
            nearest = np.clip(wanted[action], least, most)
            wanted[action] = np.clip(nearest, before[action] - change, before[action] + change)


def longest_step(distance: float, change: float) -> float:
    """Returns the longest step from which one can come to rest within a distance.

    Args:
        distance: to the wall, in steps' unit; at or behind the wall, 0 or less.
        change: by which steps may become shorter each time.
    """
    room = distance * (1 - 1e-6)
    if room <= 0:
        return 0.0
    for num_steps in range(1, MAX_BRAKING_STEPS):
        # num_steps steps, each shorter by `change`, cover the room: s + (s - c) + (s - 2c) + ...
        step = room / num_steps + change * (num_steps - 1) / 2 if num_steps > 1 else room
        if step <= num_steps * change:
            return step
    return step


def _is_number(value: Any) -> bool:  # noqa: ANN401
    is_plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_plain and not math.isnan(value)


def _is_interval(sides: Any) -> bool:  # noqa: ANN401
    if not isinstance(sides, (tuple, list)) or len(sides) != 2:
        return False
    return all(_is_number(side) and math.isfinite(side) for side in sides) and sides[0] < sides[1]


def _refuse_unknown(where: str, names: Any, known: Any) -> None:  # noqa: ANN401
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"{where}: there is no {name!r}; {hint}there are: {', '.join(known) or 'none'}"
            )
