"""Windows of trajectories, labelled by their states or by their actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.batch import SkippedSample
from data_pipelines.labelled_clips.clip_settings import ClipSettings
from data_pipelines.labelled_clips.labelled_set import (
    LabelledClips,
    identity_of,
    recording_of,
)
from data_pipelines.labelled_clips.videos_and_images import index_of
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import TrajectorySpecification
from data_pipelines.trajectory_dataset import TrajectoryDataset, recorded_specification

TARGETS = ("states", "actions", "motion")


class Target(NamedTuple):
    """What is to be read off a window.

    Attributes:
        kind: "states": the states at its last frame; "actions": their sum over the window;
            "motion": which way that sum points, the column with the largest part of its range and
            its sign, as a class.
        columns: of the states, or of the actions.
    """

    kind: str
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, specification: TrajectorySpecification) -> Target:
        """Reads "states", "actions" or "motion", perhaps with columns: "states:x,y".

        Raises:
            ValueError: if it is none of these, or a column has no such name.
        """
        kind, _, listed = text.partition(":")
        if kind not in TARGETS:
            raise ValueError(
                f"the target of trajectories is one of {', '.join(TARGETS)}, perhaps with columns "
                f"as in states:x,y; got {text!r}"
            )
        known = specification.state_names if kind == "states" else specification.action_names
        columns = tuple(name.strip() for name in listed.split(",")) if listed else known
        unknown = [name for name in columns if name not in known]
        if unknown or not columns:
            raise ValueError(
                f"{text!r}: no column {', '.join(unknown) or 'at all'}; "
                f"there are {', '.join(known) or 'none'}"
            )
        return cls(kind, columns)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Returns the names of the classes, None for numbers; the last is no motion at all."""
        if self.kind != "motion":
            return None
        return (*(f"{name} {sign}" for name in self.columns for sign in "+-"), "still")


@dataclass(frozen=True)
class WindowClips(LabelledClips):
    """Windows of trajectories; whole frames, so that what an action moved is in sight.

    Attributes:
        specification: of the trajectories.
        window_numbers: (samples,) which of its trajectory's windows a sample is.
    """

    specification: TrajectorySpecification | None = None
    window_numbers: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        settings = self.settings
        if settings.num_clips > 1 or settings.num_views > 1 or settings.random_views:
            raise ValueError(
                "a window of a trajectory is one clip of whole frames: num_clips and num_views "
                "must be 1, without random views; windows_per_trajectory gives more rows"
            )
        if settings.crop != "whole":
            raise ValueError(f"trajectories need crop='whole', got {settings.crop!r}")

    @cached_property
    def _dataset(self) -> EvenWindows:
        index = ShardIndex(index_of(self.samples).shards, (), self.specification)
        return even_windows(index, self.settings)

    def _read(self, number: int, generator: torch.Generator) -> Tensor:
        window = self.window_numbers[number]
        chosen = slice(window, window + 1)
        return self._dataset.read(self.samples[number], generator, (), chosen).frames


class EvenWindows(TrajectoryDataset):
    """Windows that are equally spaced, from the first possible start to the last."""

    def starts(self, num_frames: int) -> np.ndarray:
        """Returns the first frame of each window: (windows,), fewer if they would be the same."""
        num_starts = self.windows.num_starts(num_frames)
        count = min(self.windows_per_trajectory, num_starts)  # 0: not one window fits
        places = np.linspace(0, num_starts - 1, count)
        if count == 1:
            places = np.array([(num_starts - 1) // 2])
        return np.round(places).astype(np.int64) * self.windows.start_spacing

    def _starts(self, num_frames: int, generator: torch.Generator) -> np.ndarray:
        return self.starts(num_frames)


def even_windows(index: ShardIndex, settings: ClipSettings) -> EvenWindows:
    """Returns the windows of an index of trajectories."""
    has_stride = settings.frame_stride > 1 or settings.frames_per_second is not None
    return EvenWindows(
        index,
        clip_length_frames=settings.clip_length_frames,
        transform=settings.transforms()[0],
        windows_per_trajectory=settings.windows_per_trajectory,
        frame_stride=settings.frame_stride,
        frames_per_second=settings.frames_per_second,
        actions="concatenate" if has_stride else "recorded",
        decoder=settings.decoder,
        replace_unusable=False,
    )


def read_windows(index: ShardIndex, settings: ClipSettings, target: str) -> WindowClips:
    """Returns all windows of trajectories, labelled.

    Trajectories that cannot be read, or are shorter than a window, are in `left_out`.

    Raises:
        ValueError: if the target cannot be understood, or no trajectory can be used.
    """
    specification = recorded_specification(index)
    wanted = Target.parse(target, specification)
    reader, windows = ShardReader(), even_windows(index, settings)
    found: list[_Window] = []
    left_out: list[SkippedSample] = []
    for sample in index.samples:
        try:
            found += _windows_of(sample, reader, windows, _label_maker(wanted, index))
        except ShardError as error:
            left_out.append(SkippedSample(sample.key, str(error)))
    reader.close()
    if not found:
        raise ValueError(f"no trajectory can be used; the first, {': '.join(left_out[0])}")
    return WindowClips(
        samples=tuple(window.sample for window in found),
        settings=settings,
        keys=tuple(f"{window.sample.key}@{window.start}" for window in found),
        labels=np.stack([window.label for window in found]),
        classes=wanted.classes,
        targets=() if wanted.classes else wanted.columns,
        recordings=tuple(recording_of(window.sample) for window in found),
        identities=tuple(identity_of(window.sample) for window in found),
        left_out=tuple(left_out),
        specification=specification,
        window_numbers=tuple(window.number for window in found),
    )


class _Window(NamedTuple):
    sample: Sample
    number: int
    start: int
    label: np.ndarray


LabelMaker = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _windows_of(
    sample: Sample, reader: ShardReader, windows: EvenWindows, label: LabelMaker
) -> Iterator[_Window]:
    states = reader.read_array(sample, STATES)  # (T, state_dim)
    actions = reader.read_array(sample, ACTIONS)  # (T - 1, action_dim)
    starts = windows.starts(len(states))
    if len(starts) == 0:
        raise ShardError(f"{len(states)} frames, a window needs {windows.windows.span}")
    for number, start in enumerate(starts.tolist()):
        last = start + windows.windows.span - 1
        yield _Window(sample, number, start, label(states[last], actions[start:last]))


def _label_maker(target: Target, index: ShardIndex) -> LabelMaker:
    """Returns what makes a label of the states at the last frame and the actions before it."""
    specification = recorded_specification(index)
    if target.kind == "states":
        columns = [specification.state_names.index(name) for name in target.columns]
        return lambda state, _: state[columns].astype(np.float32)
    columns = [specification.action_names.index(name) for name in target.columns]
    if target.kind == "actions":
        return lambda _, actions: actions[:, columns].sum(0).astype(np.float32)
    low, high = np.array(specification.action_low), np.array(specification.action_high)
    ranges = np.where(high > low, high - low, 1.0)[columns]  # a column that never moves has none
    return lambda _, actions: _direction(actions[:, columns].sum(0) / ranges)


def _direction(total: np.ndarray) -> np.ndarray:
    """Returns the class of a motion (columns,): 2 * column, + 1 if negative; the last if none."""
    column = int(np.abs(total).argmax())
    if not np.abs(total[column]) > 0:
        return np.array(2 * len(total), np.int64)
    return np.array(2 * column + (total[column] < 0), np.int64)
