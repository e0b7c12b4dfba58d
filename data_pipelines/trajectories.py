"""Trajectories: frames, states and actions of one episode, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

_MEANINGS = ("frame", "rotation", "gripper", "action_kind")  # in words; optional


@dataclass(frozen=True)
class TrajectorySpecification:
    """What the columns of states and actions mean; the same for a whole set of shards.

    Attributes:
        state_names: one per state column, such as "agent_x".
        state_units: one per state column, such as "metres"; "1" for a pure number.
        action_names: one per action column.
        action_units: one per action column.
        action_low: least allowed value of each action column.
        action_high: greatest allowed value of each action column.
        frames_per_second: rate of frames, states and actions.
        frame: reference frame of poses, such as "base"; "" if there are none or nobody says.
        rotation: how rotations are written, such as "extrinsic xyz Euler, radians"; "" likewise.
        gripper: what its column says, such as "closedness, 0 open to 1 closed"; "" likewise.
        action_kind: what an action is, such as "pose difference" or "joint velocity"; "" likewise.
    """

    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    frames_per_second: float
    frame: str = ""
    rotation: str = ""
    gripper: str = ""
    action_kind: str = ""

    def __post_init__(self) -> None:
        for name in _MEANINGS:
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a string, got {getattr(self, name)!r}")
        if len(self.state_units) != len(self.state_names):
            raise ValueError(
                f"{len(self.state_units)} state_units for {len(self.state_names)} state_names"
            )
        for name in ("action_units", "action_low", "action_high"):
            if len(getattr(self, name)) != len(self.action_names):
                raise ValueError(
                    f"{len(getattr(self, name))} {name} for {len(self.action_names)} action_names"
                )
        bounds = np.array([self.action_low, self.action_high], dtype=np.float64)
        if not np.isfinite(bounds).all() or (bounds[0] >= bounds[1]).any():
            raise ValueError(
                "action_low must be below action_high, both finite, "
                f"got {self.action_low} and {self.action_high}"
            )
        if not 0 < self.frames_per_second <= 1000:
            raise ValueError(
                f"frames_per_second must be in (0, 1000], got {self.frames_per_second}"
            )

    @property
    def state_dim(self) -> int:
        """Returns the number of state columns."""
        return len(self.state_names)

    @property
    def action_dim(self) -> int:
        """Returns the number of action columns."""
        return len(self.action_names)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for a JSON file; `from_json` is the inverse.

        A meaning that nobody says is left out, so sets without meanings read as they always did.
        """
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value or key not in _MEANINGS
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrajectorySpecification:
        """Builds the specification that `to_json` wrote.

        Raises:
            ValueError: if a key is missing, unknown or of a wrong kind.
        """
        try:
            arguments: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**arguments)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a trajectory specification: {error}") from None


def differing_field(
    one: TrajectorySpecification, other: TrajectorySpecification, *, ignored: Collection[str] = ()
) -> str | None:
    """Returns the name of the first field in which two specifications differ, or None.

    Args:
        one: a specification.
        other: another one.
        ignored: names of fields that may differ.
    """
    names = (field.name for field in fields(TrajectorySpecification) if field.name not in ignored)
    return next((name for name in names if getattr(one, name) != getattr(other, name)), None)


@dataclass(frozen=True)
class Episode:
    """One recorded trajectory of T frames.

    Attributes:
        frames: (T, height, width, 3), uint8, RGB.
        states: (T, state_dim), float32: states[t] is the state seen in frames[t].
        actions: (T - 1, action_dim), float32: actions[t] leads from frame t to frame t + 1.
        key: unique in its set.
        frames_per_second: rate of the frames.
        group: what must stay together when a set is split, such as the robot or the seed.
        remarks: what a reader of the set should know of it, such as an end that was cut off.
        about: more to be known of it, as JSON can hold it, such as how it can be simulated again.
    """

    frames: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    key: str
    frames_per_second: float
    group: str = ""
    remarks: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def joined_names(names: tuple[str, ...], stride: int) -> tuple[str, ...]:
    """Returns the names of `stride` actions side by side: x@0, y@0, x@1, y@1, ..."""
    if stride == 1:
        return names
    return tuple(f"{name}@{step}" for step in range(stride) for name in names)


@dataclass(frozen=True)
class ColumnStatistics:
    """What the numbers of every column are like, over all episodes of a set, in their units.

    Sets that were packed before extremes and quantiles were kept have () there.

    Attributes:
        state_mean: (state_dim,).
        state_std: (state_dim,), of the rows as a population.
        action_mean: (action_dim,).
        action_std: (action_dim,).
        state_min: (state_dim,), the least value.
        state_max: (state_dim,), the greatest.
        state_quantile_01: (state_dim,), 1 % of the values lie below; see `RowSample` for how exact.
        state_quantile_99: (state_dim,), 99 % of the values lie below.
        action_min: (action_dim,).
        action_max: (action_dim,).
        action_quantile_01: (action_dim,).
        action_quantile_99: (action_dim,).
    """

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    state_min: tuple[float, ...] = ()
    state_max: tuple[float, ...] = ()
    state_quantile_01: tuple[float, ...] = ()
    state_quantile_99: tuple[float, ...] = ()
    action_min: tuple[float, ...] = ()
    action_max: tuple[float, ...] = ()
    action_quantile_01: tuple[float, ...] = ()
    action_quantile_99: tuple[float, ...] = ()

    def to_json(self) -> dict[str, list[float]]:
        """Returns plain values for a JSON file; `from_json` is the inverse.

        What is not known is left out.
        """
        return {
            key: list(value)
            for key, value in asdict(self).items()
            if value or key.endswith(("mean", "std"))
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ColumnStatistics:
        """Builds the statistics that `to_json` wrote.

        Raises:
            ValueError: if a key is missing, unknown or of a wrong kind, or columns differ.
        """
        try:
            columns = {key: tuple(map(float, value)) for key, value in values.items()}
            statistics = cls(**columns)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no statistics of columns: {error}") from None
        for prefix in ("state", "action"):
            widths = {len(columns[key]) for key in columns if key.startswith(prefix)}
            if len(widths) != 1:
                raise ValueError(f"no statistics of columns: {prefix} columns are {widths} wide")
        return statistics


class RunningMoments:
    """Mean and standard deviation of rows that pass by once (Chan's update, in float64)."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self._squares = np.zeros(dim)

    def add(self, rows: np.ndarray) -> None:
        """Takes more rows: (rows, dim)."""
        if len(rows) == 0:
            return
        rows = rows.astype(np.float64)
        total = self.count + len(rows)
        difference = rows.mean(0) - self.mean
        self._squares += ((rows - rows.mean(0)) ** 2).sum(0)
        self._squares += difference**2 * self.count * len(rows) / total
        self.mean = self.mean + difference * len(rows) / total
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """Returns the standard deviation of the rows as a population: (dim,)."""
        return np.sqrt(self._squares / max(self.count, 1))


class RowSample:
    """Every k-th of the rows that pass by once, for their quantiles; the same rows every time.

    k is 1 until `max_rows` are kept, then every other one is dropped and k doubles. So quantiles
    are exact up to `max_rows` rows; above, at least max_rows / 2 evenly spaced ones are left, of
    which (if they were independent) 1 % lie below a value that 0.94 to 1.06 % of all lie below.

    Args:
        max_rows: kept at most, even.
    """

    def __init__(self, *, max_rows: int = 1 << 16) -> None:
        if max_rows < 2 or max_rows % 2:
            raise ValueError(f"max_rows must be even and at least 2, got {max_rows}")
        self.max_rows = max_rows
        self.spacing = 1
        self._kept: list[np.ndarray] = []
        self._num_kept = 0
        self._to_pass = 0  # rows until the next one is kept

    def add(self, rows: np.ndarray) -> None:
        """Takes more rows: (rows, dim)."""
        while len(rows) > self._to_pass:
            room = (self.max_rows - self._num_kept) * self.spacing
            part, rows = rows[: self._to_pass + room], rows[self._to_pass + room :]
            kept = part[self._to_pass :: self.spacing]
            self._to_pass += len(kept) * self.spacing - len(part)
            self._kept.append(kept.copy())
            self._num_kept += len(kept)
            if self._num_kept == self.max_rows:
                self._thin_out()
        self._to_pass -= len(rows)

    def quantiles(self, *parts: float) -> np.ndarray:
        """Returns the values that these parts of the rows lie below: (parts, dim).

        Raises:
            ValueError: if there are no rows.
        """
        if not self._num_kept:
            raise ValueError("there are no rows to take quantiles of")
        return np.quantile(np.concatenate(self._kept).astype(np.float64), parts, axis=0)

    def _thin_out(self) -> None:
        """Keeps every other row; as max_rows is even, the next row goes on with the pattern."""
        self._kept = [np.concatenate(self._kept)[::2]]
        self._num_kept = len(self._kept[0])
        self.spacing *= 2


class RowSummary:
    """Moments, extremes and quantiles of rows that pass by once."""

    def __init__(self, dim: int) -> None:
        self._moments, self._sample = RunningMoments(dim), RowSample()
        self._min, self._max = np.full(dim, np.inf), np.full(dim, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Takes more rows: (rows, dim)."""
        if len(rows) == 0:
            return
        self._moments.add(rows)
        self._sample.add(rows)
        self._min = np.minimum(self._min, rows.min(0))
        self._max = np.maximum(self._max, rows.max(0))

    def result(self, prefix: str) -> dict[str, tuple[float, ...]]:
        """Returns fields of `ColumnStatistics`, such as "state_mean" for the prefix "state"."""
        values = {"mean": self._moments.mean, "std": self._moments.std}
        if self._moments.count:
            low, high = self._sample.quantiles(0.01, 0.99)
            values |= {"min": self._min, "max": self._max}
            values |= {"quantile_01": low, "quantile_99": high}
        return {f"{prefix}_{name}": tuple(value.tolist()) for name, value in values.items()}


class StatisticsOfEpisodes:
    """Gathers `ColumnStatistics` while episodes pass by."""

    def __init__(self, specification: TrajectorySpecification) -> None:
        self._states = RowSummary(specification.state_dim)
        self._actions = RowSummary(specification.action_dim)

    def add(self, states: np.ndarray, actions: np.ndarray) -> None:
        """Takes one episode's states (T, state_dim) and actions (T - 1, action_dim)."""
        self._states.add(states)
        self._actions.add(actions)

    def result(self) -> ColumnStatistics:
        """Returns the statistics of all episodes so far."""
        return ColumnStatistics(**self._states.result("state"), **self._actions.result("action"))


def refuse_bad_episode(episode: Episode, specification: TrajectorySpecification) -> None:
    """Raises if an episode does not fit the specification.

    Raises:
        ValueError: naming the episode, what came and what is expected.
    """
    time = len(episode.frames)
    name = f"episode '{episode.key}'"
    if episode.frames.ndim != 4 or episode.frames.shape[-1] != 3:
        raise ValueError(
            f"{name}: frames must be (time, height, width, 3), got {tuple(episode.frames.shape)}"
        )
    if time < 2:
        raise ValueError(f"{name}: needs at least 2 frames, got {time}")
    if not np.isclose(episode.frames_per_second, specification.frames_per_second):
        raise ValueError(
            f"{name}: {episode.frames_per_second:g} frames per second, the specification says "
            f"{specification.frames_per_second:g}"
        )
    _refuse_bad_columns(name, "states", episode.states, (time, specification.state_dim))
    _refuse_bad_columns(name, "actions", episode.actions, (time - 1, specification.action_dim))
    _refuse_actions_out_of_bounds(name, episode.actions, specification)


def _refuse_bad_columns(name: str, what: str, values: np.ndarray, shape: tuple[int, int]) -> None:
    if values.shape != shape:
        raise ValueError(
            f"{name}: {what} must be {shape}, got {tuple(values.shape)} "
            "(T frames, T states, T - 1 actions)"
        )
    if values.dtype != np.float32:
        raise ValueError(f"{name}: {what} must be float32, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {what} has values that are not finite")


def _refuse_actions_out_of_bounds(
    name: str, actions: np.ndarray, specification: TrajectorySpecification
) -> None:
    low = np.array(specification.action_low, dtype=np.float32)
    high = np.array(specification.action_high, dtype=np.float32)
    slack = 1e-4 * (high - low)  # float32 rounding of a clipped action
    outside = (actions < low - slack) | (actions > high + slack)  # (T - 1, action_dim)
    if outside.any():
        step, column = np.argwhere(outside)[0]
        raise ValueError(
            f"{name}: actions[{step}] has {specification.action_names[column]}="
            f"{actions[step, column]:g}, allowed is [{low[column]:g}, {high[column]:g}]"
        )
