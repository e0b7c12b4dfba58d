"""Trajectory shards become a LeRobotDataset v3.0 folder, which LeRobot and our importer read.

What a LeRobot folder has no place for is kept under "info" of the features in `meta/info.json`:
units, bounds, and what poses and actions mean. LeRobot has an action for every frame and we have
one fewer, so the last row of an episode repeats the action before it; that is said there too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from data_pipelines.decoders.base import decoder_class
from data_pipelines.lerobot_layout import (
    ACTION,
    DATA_PATH,
    EPISODES_PATH,
    INFO_PATH,
    STATE,
    STATS_PATH,
    TASKS_PATH,
    VERSION,
    VIDEO_PATH,
)
from data_pipelines.parquet import ParquetWriter
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex, Shards
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import RunningMoments, TrajectorySpecification
from data_pipelines.urls import shown
from data_pipelines.video_writing import Mp4Writer

_DECODER = "pyav"
_FRAMES_AT_ONCE = 64
_PIXELS_A_SIDE = 64  # of large frames, statistics are taken from so many rows and columns
_LAST_ACTION = "the last row of each episode repeats the action before it: none was recorded"


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        folder: of the LeRobot data set.
        num_episodes: how many episodes it has.
        num_frames: how many frames they have together.
    """

    folder: Path
    num_episodes: int
    num_frames: int


def export_lerobot(
    shards: Shards,
    out: str | Path,
    *,
    camera: str = "observation.images.camera",
    robot_type: str = "unknown",
    task: str = "",
    max_file_bytes: int = 200 << 20,
    files_per_chunk: int = 1000,
) -> ExportResult:
    """Writes trajectory shards as a LeRobotDataset v3.0 folder; it appears whole or not at all.

    Args:
        shards: as for `ShardIndex.load`.
        out: the folder to make; it may exist if it is empty.
        camera: the feature that the frames become.
        robot_type: as `meta/info.json` names it.
        task: what the robot was asked to do, in words; the same for all episodes.
        max_file_bytes: the video with which a file reaches this size is the last in it.
        files_per_chunk: how many files lie in one folder `chunk-000`.

    Raises:
        FileExistsError: if `out` holds something.
        ShardError: if the shards cannot be read, or hold no trajectories, or if frames are not
            as many as states or differ in size.
        ImportError: if pyarrow is not installed.
    """
    out = Path(out)
    if "/" in camera or camera in (STATE, ACTION, *_COUNTERS):
        raise ValueError(f"camera '{camera}' is no name for a feature: it is taken or has a '/'")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not empty; choose another folder")
    index = ShardIndex.load(shards)
    specification = index.specification
    if specification is None or not all(sample.is_trajectory for sample in index.samples):
        raise ShardError("these shards hold videos without states and actions: nothing to export")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        with _LeRobotFolder(
            unfinished, specification, camera, task, max_file_bytes, files_per_chunk
        ) as folder:
            for episode in _stored_episodes(index):
                folder.add(episode)
            folder.finish(robot_type)
        if out.exists():
            out.rmdir()
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return ExportResult(out, folder.num_episodes, folder.num_frames)


@dataclass(frozen=True)
class _StoredEpisode:
    """One trajectory of the shards; its frames are decoded some at a time."""

    sample: Sample
    video: bytes
    states: np.ndarray  # (time, state_dim)
    actions: np.ndarray  # (time - 1, action_dim)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yields the frames, in order: (some, height, width, 3)."""
        name, time = f"{shown(self.sample.shard)}: '{self.sample.key}'", len(self.states)
        with decoder_class(_DECODER)(self.video, name) as video:
            num_frames = len(video.timestamps_seconds())
            if num_frames != time:
                raise ShardError(f"{name} has {num_frames} frames and {time} states")
            for at in range(0, time, _FRAMES_AT_ONCE):
                yield video.frames_at(range(at, min(at + _FRAMES_AT_ONCE, time))).pixels


def _stored_episodes(index: ShardIndex) -> Iterator[_StoredEpisode]:
    reader = ShardReader()
    try:
        for sample in index.samples:
            yield _StoredEpisode(
                sample,
                reader.read(sample, sample.video_extension),
                reader.read_array(sample, STATES),
                reader.read_array(sample, ACTIONS),
            )
    finally:
        reader.close()


_COUNTERS = {
    "timestamp": np.float32,
    "frame_index": np.int64,
    "episode_index": np.int64,
    "index": np.int64,
    "task_index": np.int64,
}


@dataclass
class _File:
    """One Parquet file and the MP4 file beside it."""

    index: int
    rows: ParquetWriter
    path: Path
    num_frames: int = 0
    video: Mp4Writer | None = None
    stream: Any = None

    def add_frames(self, frames: np.ndarray, frames_per_second: float) -> None:
        if self.video is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = self.path.open("wb")
            height, width = frames.shape[1:3]
            self.video = Mp4Writer(
                self.stream,
                height=height,
                width=width,
                frames_per_second=frames_per_second,
                keyframe_interval=8,
            )
        self.video.add(frames)
        self.num_frames += len(frames)

    @property
    def num_bytes(self) -> int:
        return 0 if self.video is None else self.video.num_bytes

    def close(self) -> None:
        self.rows.close()
        if self.video is not None:
            self.video.close()
            self.stream.close()


@dataclass
class _Range:
    """Least, greatest, mean and standard deviation of rows that pass by."""

    dim: int
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    moments: RunningMoments = field(init=False)

    def __post_init__(self) -> None:
        self.low, self.high = np.full(self.dim, np.inf), np.full(self.dim, -np.inf)
        self.moments = RunningMoments(self.dim)

    def add(self, rows: np.ndarray) -> None:
        """Takes rows: (rows, dim)."""
        self.low = np.minimum(self.low, rows.min(0))
        self.high = np.maximum(self.high, rows.max(0))
        self.moments.add(rows)

    def result(self, num_frames: int, *, is_image: bool) -> dict[str, Any]:
        """Returns the values as LeRobot has them: colours are (3, 1, 1), in [0, 1]."""
        values = {
            "min": self.low,
            "max": self.high,
            "mean": self.moments.mean,
            "std": self.moments.std,
        }
        shape = (-1, 1, 1) if is_image else (-1,)
        lists = {name: column.reshape(shape).tolist() for name, column in values.items()}
        return {**lists, "count": [num_frames]}


class _LeRobotFolder:
    """A LeRobot folder while it is written, episode by episode."""

    def __init__(
        self,
        folder: Path,
        specification: TrajectorySpecification,
        camera: str,
        task: str,
        max_file_bytes: int,
        files_per_chunk: int,
    ) -> None:
        self.folder = folder
        self.num_episodes = 0
        self.num_frames = 0
        self._specification = specification
        self._camera = camera
        self._task = task
        self._max_file_bytes = max_file_bytes
        self._files_per_chunk = files_per_chunk
        self._size: tuple[int, int] | None = None  # height, width
        self._file: _File | None = None
        self._num_files = 0
        self._episodes: dict[str, list[Any]] = {}
        self._statistics = self._new_statistics()

    def add(self, episode: _StoredEpisode) -> None:
        """Writes an episode's rows and frames."""
        file = self._open_file()
        time, rate = len(episode.states), self._specification.frames_per_second
        statistics, first = self._new_statistics(), file.num_frames
        for frames in episode.pieces():
            self._refuse_other_size(episode.sample, frames)
            file.add_frames(frames, rate)
            colours = _sampled_colours(frames)
            statistics[self._camera].add(colours)
            self._statistics[self._camera].add(colours)
        columns = self._columns(episode)
        file.rows.add(columns)
        for name, values in columns.items():
            rows = values.reshape(time, -1)
            statistics[name].add(rows)
            self._statistics[name].add(rows)
        self._note_episode(time, file, first, statistics)
        if file.num_bytes >= self._max_file_bytes:
            self._close_file()

    def finish(self, robot_type: str) -> None:
        """Writes `meta`."""
        self._close_file()
        with ParquetWriter(self.folder / TASKS_PATH, index="task") as tasks:
            tasks.add({"task_index": np.zeros(1, np.int64), "task": [self._task]})
        path = self.folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
        with ParquetWriter(path) as episodes:
            episodes.add(self._episodes)
        statistics = self._results(self._statistics, self.num_frames)
        _write_json(self.folder / STATS_PATH, statistics)
        _write_json(self.folder / INFO_PATH, self._info(robot_type))

    def __enter__(self) -> _LeRobotFolder:
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def __exit__(
        self, error_type: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._file is not None and self._file.stream is not None:
            self._file.stream.close()

    def _open_file(self) -> _File:
        if self._file is None:
            place = self._place(self._num_files)
            self._file = _File(
                self._num_files,
                ParquetWriter(self.folder / DATA_PATH.format(**place)),
                self.folder / VIDEO_PATH.format(**place, video_key=self._camera),
            )
            self._num_files += 1
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _place(self, number: int) -> dict[str, int]:
        chunk_index, file_index = divmod(number, self._files_per_chunk)
        return {"chunk_index": chunk_index, "file_index": file_index}

    def _columns(self, episode: _StoredEpisode) -> dict[str, np.ndarray]:
        """Returns an episode's rows; a feature of one column is plain numbers, as LeRobot has it.

        The last action is repeated, so that there is one for each frame.
        """
        time = len(episode.states)
        actions = np.concatenate([episode.actions, episode.actions[-1:]])  # (time, action_dim)
        frame_index = np.arange(time)
        counters = {
            "timestamp": frame_index / self._specification.frames_per_second,
            "frame_index": frame_index,
            "episode_index": np.full(time, self.num_episodes),
            "index": self.num_frames + frame_index,
            "task_index": np.zeros(time),
        }
        return {
            STATE: _plain_if_single(episode.states),
            ACTION: _plain_if_single(actions),
            **{name: values.astype(_COUNTERS[name]) for name, values in counters.items()},
        }

    def _note_episode(
        self, time: int, file: _File, first: int, statistics: Mapping[str, _Range]
    ) -> None:
        """Adds an episode's row to `meta/episodes`, and counts it."""
        rate, place = self._specification.frames_per_second, self._place(file.index)
        video = f"videos/{self._camera}"
        row: dict[str, Any] = {
            "episode_index": self.num_episodes,
            "tasks": [self._task],
            "length": time,
            "data/chunk_index": place["chunk_index"],
            "data/file_index": place["file_index"],
            "dataset_from_index": self.num_frames,
            "dataset_to_index": self.num_frames + time,
            f"{video}/chunk_index": place["chunk_index"],
            f"{video}/file_index": place["file_index"],
            f"{video}/from_timestamp": first / rate,
            f"{video}/to_timestamp": (first + time) / rate,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for name, values in self._results(statistics, time).items():
            row.update({f"stats/{name}/{what}": value for what, value in values.items()})
        for name, value in row.items():
            self._episodes.setdefault(name, []).append(value)
        self.num_episodes += 1
        self.num_frames += time

    def _new_statistics(self) -> dict[str, _Range]:
        dims = {
            STATE: self._specification.state_dim,
            ACTION: self._specification.action_dim,
            self._camera: 3,
            **dict.fromkeys(_COUNTERS, 1),
        }
        return {name: _Range(dim) for name, dim in dims.items()}

    def _results(self, statistics: Mapping[str, _Range], num_frames: int) -> dict[str, Any]:
        return {
            name: values.result(num_frames, is_image=name == self._camera)
            for name, values in statistics.items()
        }

    def _refuse_other_size(self, sample: Sample, frames: np.ndarray) -> None:
        height, width = frames.shape[1:3]
        self._size = self._size or (height, width)
        if self._size != (height, width):
            raise ShardError(
                f"{shown(sample.shard)}: '{sample.key}' has frames of {(height, width)} pixels, "
                f"those before {self._size}; LeRobot has one size for all"
            )

    def _info(self, robot_type: str) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": robot_type,
            "total_episodes": self.num_episodes,
            "total_frames": self.num_frames,
            "total_tasks": 1,
            "chunks_size": self._files_per_chunk,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": max(self._max_file_bytes >> 20, 1),
            "fps": _plain_rate(self._specification.frames_per_second),
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": self._features(),
        }

    def _features(self) -> dict[str, Any]:
        told, rate = self._specification, _plain_rate(self._specification.frames_per_second)
        meanings = {
            name: getattr(told, name)
            for name in ("frame", "rotation", "gripper", "action_kind")
            if getattr(told, name)
        }
        about_actions = {
            "units": list(told.action_units),
            "low": list(told.action_low),
            "high": list(told.action_high),
            "last_action": _LAST_ACTION,
            **meanings,
        }
        height, width = self._size or (0, 0)
        about_video = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": rate,
            "video.channels": 3,
            "has_audio": False,
        }
        return {
            STATE: _feature("float32", told.state_names, {"units": list(told.state_units)}),
            ACTION: _feature("float32", told.action_names, about_actions),
            self._camera: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": about_video,
            },
            **{
                name: {"dtype": np.dtype(kind).name, "shape": [1], "names": None}
                for name, kind in _COUNTERS.items()
            },
        }


def _feature(dtype: str, names: tuple[str, ...], about: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": list(names), "info": about}


def _sampled_colours(frames: np.ndarray) -> np.ndarray:
    """Returns the colours of pixels on a grid, each in [0, 1]: (pixels, 3)."""
    step = max(1, min(frames.shape[1:3]) // _PIXELS_A_SIDE)
    return frames[:, ::step, ::step].reshape(-1, 3) / 255.0


def _plain_if_single(rows: np.ndarray) -> np.ndarray:
    """Returns (time, dim) rows, or (time,) if dim is 1."""
    return rows[:, 0] if rows.shape[1] == 1 else rows


def _plain_rate(rate: float) -> int | float:
    """Returns a whole rate as the integer that LeRobot writes."""
    return int(rate) if float(rate).is_integer() else rate


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=4), encoding="utf-8")
