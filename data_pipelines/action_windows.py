"""What leads from one taken frame to the next: pure arithmetic, no pixels and no files.

Where frames are left out, so are the moments of their actions. Four ways to say what happened
between two frames that are taken:

- "recorded": nothing is left out; the actions are those of the data.
- "concatenate": the actions in between, one after the other, as one longer action (DINO-WM,
  arXiv:2411.04983; jepa-wms). Loses nothing; a plan is cut into the recorded steps again.
- "repeat": one action stands for all in between, and a plan repeats it (PLDM, arXiv:2502.14819).
  Right by itself only where the data were recorded so; else a reduction must be chosen.
- "pose_difference": the difference between the two measured poses of a robot's hand (V-JEPA 2,
  arXiv:2506.09985, Sec. 3.1), whatever was commanded. The only one for a rate that the recorded
  rate is no multiple of, such as 4 of 15 frames per second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from data_pipelines.pose_differences import POSE_COLUMNS, ROTATION, differences_between
from data_pipelines.trajectories import (
    ColumnStatistics,
    RowSummary,
    TrajectorySpecification,
    joined_names,
)

ActionMode = Literal["recorded", "concatenate", "repeat", "pose_difference"]
ActionReduction = Literal["equal", "mean", "sum", "first"]

_EVEN = 1e-3  # a ratio of rates this close to a whole number, relatively, is one
_EQUAL = 1e-4  # of an action's range: rounding of float32
_ROOM = 1e-3  # on both sides of a difference that never changes: a millimetre, a milliradian


@dataclass(frozen=True)
class ActionWindows:
    """How windows of frames, states and actions are cut out of trajectories.

    Attributes:
        recorded: what the columns of the trajectories mean.
        clip_length_frames: frames per window.
        mode: what an action of a window is; see this file's first lines.
        frame_stride: every so many recorded frames one is taken.
        frames_per_second: instead of a stride: of each wanted moment the nearest recorded frame is
            taken, so at most half a recorded frame's time beside it; None: by the stride.
        reduction: which action stands for several, with "repeat". "equal": they must be equal (to
            1e-4 of the action's range), counted from the trajectory's first action on, so windows
            start at multiples of the stride. "sum" is right for displacements, "mean" for
            velocities, "first" for commands that are held.

    Raises:
        ValueError: if actions would be lost, if the rates do not go together, or if the states
            are no poses and their differences are wanted.
    """

    recorded: TrajectorySpecification
    clip_length_frames: int
    mode: ActionMode = "recorded"
    frame_stride: int = 1
    frames_per_second: float | None = None
    reduction: ActionReduction = "equal"

    def __post_init__(self) -> None:
        _refuse_wrong_choices(self)
        stride = self._even_stride
        if stride is None and self.mode != "pose_difference":
            raise ValueError(
                f"{self.frames_per_second:g} frames per second of {self._rate:g} take frames at "
                f"uneven distances, so the actions='{self.mode}' in between differ in number; "
                "choose actions='pose_difference', or the recorded rate divided by a whole number"
            )
        if self.mode == "recorded" and stride != 1:
            raise ValueError(
                f"frame_stride={stride} leaves out frames but not their actions; choose "
                "actions='concatenate', 'repeat' or 'pose_difference', or frame_stride=1"
            )
        if self.mode == "pose_difference":
            _pose_columns(self.recorded)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Returns the frames of a window, counted from its first: (time,), int64."""
        moments = np.arange(self.clip_length_frames)
        if self._even_stride is not None:
            return moments * self._even_stride
        return np.floor(moments * self._ratio + 0.5).astype(np.int64)

    @property
    def span(self) -> int:
        """Returns how many recorded frames a window reaches over."""
        return int(self.offsets[-1]) + 1

    @property
    def start_spacing(self) -> int:
        """Returns k such that windows start at frames 0, k, 2 k, ...: 1 unless actions repeat."""
        return self.steps_per_action if self._must_be_equal else 1

    @property
    def steps_per_action(self) -> int:
        """Returns how many recorded actions make one of the window's; 1 for pose differences."""
        stride = self._even_stride
        return 1 if stride is None or self.mode == "pose_difference" else stride

    @property
    def action_dim(self) -> int:
        """Returns the number of columns of a window's actions."""
        if self.mode == "pose_difference":
            return len(POSE_COLUMNS)
        joined = self.steps_per_action if self.mode == "concatenate" else 1
        return self.recorded.action_dim * joined

    def num_starts(self, num_frames: int) -> int:
        """Returns how many windows a trajectory of so many frames has; 0 if it is too short."""
        return max((num_frames - self.span) // self.start_spacing + 1, 0)

    def frames_from(self, starts: np.ndarray) -> np.ndarray:
        """Returns the frames of the windows from `starts` (windows,) on: (windows, time)."""
        return starts[:, None] + self.offsets

    def actions_from(
        self, starts: np.ndarray, states: np.ndarray, actions: np.ndarray, *, key: str = ""
    ) -> np.ndarray:
        """Returns the actions that lead from each frame of a window to its next.

        Args:
            starts: first frames: (windows,).
            states: of the trajectory: (T, state_dim).
            actions: of the trajectory: (T - 1, recorded action_dim).
            key: names the trajectory in errors.

        Returns:
            (windows, time - 1, action_dim), float32.

        Raises:
            ValueError: if actions must be equal and are not.
        """
        frames = self.frames_from(starts)
        return self._between(frames[:, :-1], frames[:, 1:], states, actions, key)

    def all_actions(
        self, states: np.ndarray, actions: np.ndarray, *, key: str = ""
    ) -> Iterator[np.ndarray]:
        """Yields all actions that windows of a trajectory may show, (rows, action_dim) at a time.

        Each comes once, wherever in a window it may be; of uneven distances between frames, each
        in proportion to how often a window has it. The ends of a trajectory count as its middle.

        Args:
            states: of the trajectory: (T, state_dim).
            actions: of the trajectory: (T - 1, recorded action_dim).
            key: names the trajectory in errors.

        Raises:
            ValueError: if actions must be equal and are not.
        """
        steps, times = np.unique(np.diff(self.offsets), return_counts=True)
        for step, count in zip(steps, times // np.gcd.reduce(times), strict=True):
            earlier = np.arange(0, len(states) - step, self.start_spacing)
            rows = self._between(earlier, earlier + step, states, actions, key)
            yield from [rows] * int(count)

    def specification(self, statistics: ColumnStatistics | None = None) -> TrajectorySpecification:
        """Returns what the columns of the windows mean.

        Args:
            statistics: of the windows. Only pose differences look at them: their bounds are the
                least and the greatest difference in the data, as a plan should not ask for more.

        Raises:
            ValueError: if the bounds of pose differences are asked for without statistics.
        """
        recorded, steps, rate = self.recorded, self.steps_per_action, self._rate / self._ratio
        if self.mode == "pose_difference":
            return _specification_of_differences(recorded, statistics, rate)
        if self.mode == "concatenate":
            return replace(
                recorded,
                action_names=joined_names(recorded.action_names, steps),
                action_units=recorded.action_units * steps,
                action_low=recorded.action_low * steps,
                action_high=recorded.action_high * steps,
                frames_per_second=rate,
            )
        size, kind = 1, recorded.action_kind
        if self.mode == "repeat" and self.reduction in ("mean", "sum"):
            size = steps if self.reduction == "sum" else 1
            kind = f"{self.reduction} of {steps} steps" + (f" of {kind}" if kind else "")
        return replace(
            recorded,
            action_low=tuple(size * low for low in recorded.action_low),
            action_high=tuple(size * high for high in recorded.action_high),
            frames_per_second=rate,
            action_kind=kind,
        )

    def derived_statistics(self, statistics: ColumnStatistics) -> ColumnStatistics | None:
        """Returns the statistics of windows if those of the recorded columns are enough.

        They are for "recorded", and for "concatenate", where every recorded action counts once
        whatever its place in a longer one, so that all places are normalised alike (as DINO-WM
        does).
        """
        if self.mode not in ("recorded", "concatenate"):
            return None
        joined = {
            name: column * self.steps_per_action
            for name, column in vars(statistics).items()
            if name.startswith("action_")
        }
        return replace(statistics, **joined)

    @property
    def _rate(self) -> float:
        return self.recorded.frames_per_second

    @property
    def _ratio(self) -> float:
        """Recorded frames for each taken one; need not be whole."""
        if self.frames_per_second is None:
            return float(self.frame_stride)
        return self._rate / self.frames_per_second

    @property
    def _even_stride(self) -> int | None:
        """The distance between taken frames, None if it changes."""
        stride = round(self._ratio)
        return stride if abs(self._ratio - stride) <= _EVEN * stride else None

    @property
    def _must_be_equal(self) -> bool:
        return self.mode == "repeat" and self.reduction == "equal"

    def _between(
        self,
        earlier: np.ndarray,
        later: np.ndarray,
        states: np.ndarray,
        actions: np.ndarray,
        key: str,
    ) -> np.ndarray:
        """Returns what leads from frames (...,) to later ones: (..., action_dim), float32."""
        if self.mode == "pose_difference":
            poses = states[:, _pose_columns(self.recorded)]
            return differences_between(poses[earlier], poses[later]).astype(np.float32)
        steps = self.steps_per_action
        taken = actions[earlier[..., None] + np.arange(steps)]  # (..., steps, recorded action_dim)
        if self.mode == "concatenate":
            return taken.reshape(*earlier.shape, self.action_dim)
        if self._must_be_equal:
            _refuse_unequal(taken, self.recorded, key)
        if self.reduction in ("equal", "first"):
            return taken[..., 0, :]
        total = taken.sum(axis=-2, dtype=np.float64)  # (..., recorded action_dim)
        return (total / steps if self.reduction == "mean" else total).astype(np.float32)


class StatisticsOfWindows:
    """Gathers the `ColumnStatistics` of windows while trajectories pass by; states are theirs."""

    def __init__(self, windows: ActionWindows) -> None:
        self._windows = windows
        self._states = RowSummary(windows.recorded.state_dim)
        self._actions = RowSummary(windows.action_dim)

    def add(self, states: np.ndarray, actions: np.ndarray, *, key: str = "") -> None:
        """Takes one trajectory's states (T, state_dim) and actions (T - 1, action_dim).

        One that is too short for a window is never seen, so it does not count.
        """
        if not self._windows.num_starts(len(states)):
            return
        self._states.add(states)
        for rows in self._windows.all_actions(states, actions, key=key):
            self._actions.add(rows)

    def result(self) -> ColumnStatistics:
        """Returns the statistics of all trajectories so far."""
        return ColumnStatistics(**self._states.result("state"), **self._actions.result("action"))


def _refuse_wrong_choices(windows: ActionWindows) -> None:
    for name in ("clip_length_frames", "frame_stride"):
        if getattr(windows, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(windows, name)}")
    for name, chosen, allowed in (
        ("actions", windows.mode, get_args(ActionMode)),
        ("action_reduction", windows.reduction, get_args(ActionReduction)),
    ):
        if chosen not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got '{chosen}'")
    if windows.reduction != "equal" and windows.mode != "repeat":
        raise ValueError(
            f"action_reduction='{windows.reduction}' is for actions='repeat' only, got "
            f"actions='{windows.mode}'"
        )
    _refuse_wrong_rate(windows)


def _refuse_wrong_rate(windows: ActionWindows) -> None:
    rate, recorded = windows.frames_per_second, windows.recorded.frames_per_second
    if rate is None:
        return
    if windows.frame_stride != 1:
        raise ValueError(
            f"give frame_stride or frames_per_second, got both ({windows.frame_stride} and "
            f"{rate:g})"
        )
    if not 0 < rate <= recorded * (1 + _EVEN):
        raise ValueError(
            f"frames_per_second must be above 0 and at most the recorded {recorded:g}, got {rate:g}"
        )


def _refuse_unequal(taken: np.ndarray, recorded: TrajectorySpecification, key: str) -> None:
    """Raises unless actions (..., steps, action_dim) are the same in all steps."""
    slack = _EQUAL * (np.array(recorded.action_high) - np.array(recorded.action_low))
    is_other = np.abs(taken - taken[..., :1, :]) > slack
    if is_other.any():
        where = tuple(np.argwhere(is_other)[0])
        column = where[-1]
        first, other = taken[(*where[:-2], 0, column)], taken[where]
        raise ValueError(
            f"trajectory '{key}': {recorded.action_names[column]} is {first:g} and {other:g} "
            f"within the {taken.shape[-2]} steps that one action is to stand for; choose "
            "action_reduction='mean', 'sum' or 'first', or actions='concatenate'"
        )


def _pose_columns(recorded: TrajectorySpecification) -> list[int]:
    """Returns which state columns are x, y, z, roll, pitch, yaw and gripper.

    Raises:
        ValueError: if there are none, or if their rotation is written otherwise or nobody says how.
    """
    names = recorded.state_names
    missing = [name for name in POSE_COLUMNS if names.count(name) != 1]
    if missing:
        raise ValueError(
            f"actions='pose_difference' needs states named {', '.join(POSE_COLUMNS)} (once each), "
            f"not so {', '.join(missing)}; the states are {', '.join(names) or 'none'}"
        )
    if recorded.rotation != ROTATION:
        raise ValueError(
            f"actions='pose_difference' needs rotation='{ROTATION}' in the specification, got "
            f"'{recorded.rotation}'; convert the states when the data are imported"
        )
    return [names.index(name) for name in POSE_COLUMNS]


def _specification_of_differences(
    recorded: TrajectorySpecification, statistics: ColumnStatistics | None, rate: float
) -> TrajectorySpecification:
    if statistics is None or not statistics.action_min:
        raise ValueError(
            "the bounds of pose differences are those of the data: give the windows' statistics"
        )
    low, high = np.array(statistics.action_min), np.array(statistics.action_max)
    room = np.where(low < high, 0.0, _ROOM)
    return replace(
        recorded,
        action_names=tuple(f"d{name}" for name in POSE_COLUMNS),
        action_units=tuple(recorded.state_units[i] for i in _pose_columns(recorded)),
        action_low=tuple((low - room).tolist()),
        action_high=tuple((high + room).tolist()),
        frames_per_second=rate,
        action_kind="pose difference",
    )
