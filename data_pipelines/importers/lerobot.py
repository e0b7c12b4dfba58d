"""LeRobotDataset v3.0 folders: `observation.state` and `action` beside one camera's frames.

Read with pyarrow and our own decoder; the library `lerobot` is not needed. An episode's frames are
found by counting: LeRobot keeps many episodes in one video, and says in seconds where each begins.
That time is rounded to a frame once, and the decoder's times must then agree.

LeRobot has an action for every frame, ours lead from one frame to the next: the last action of an
episode, whose outcome was not recorded, is dropped.

At a lower frame rate, the actions between two frames that are kept are joined, columns side by side
(`x@0`, `x@1`, ...): whether they should be added (differences) or the last one taken (targets) is
not written in the data set, and joining loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.decoders.base import VideoDecoder, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.images import decode_image
from data_pipelines.importers.base import (
    Importer,
    ListedEpisode,
    SourceError,
    joined_actions,
    refuse_bad_image_size,
    resized,
    stride_of_rate,
)
from data_pipelines.lerobot_layout import (
    ACTION,
    STATE,
    STATS_PATH,
    EpisodePlace,
    LayoutError,
    LeRobotInfo,
    episode_places,
    load_info,
    read_json,
)
from data_pipelines.parquet import ParquetError, ParquetReader
from data_pipelines.trajectories import Episode, TrajectorySpecification, joined_names

SUMMARY = "LeRobotDataset v3.0 folder, videos or images (needs pyarrow)"

# decord's wheels cannot read AV1, which is what LeRobot writes unless told otherwise.
_DECODER = "pyav"
_FRAMES_AT_ONCE = 64  # decoded before they are made smaller


def open_source(
    source: str | Path,
    *,
    camera: str | None = None,
    frames_per_second: float | None = None,
    image_size: int | None = None,
) -> LeRobotSource:
    """Opens a folder; reads its `meta`, and nothing of its data yet.

    Args:
        source: the folder that has `meta/info.json`.
        camera: such as "observation.images.top", or "top"; None if there is only one.
        frames_per_second: that of the data set divided by a whole number; None: every frame.
        image_size: height and width in pixels; None: as recorded.

    Raises:
        FileNotFoundError: if there is no such folder.
        SourceError: if it is not laid out as LeRobot v3.0, or an option does not fit it.
        ImportError: if pyarrow is not installed.
    """
    refuse_bad_image_size(image_size)
    try:
        info = load_info(source)
        camera = _chosen_camera(info, camera)
        places = episode_places(info, camera)
        stride = stride_of_rate(info.frames_per_second, frames_per_second)
        specification = _specification(info, places, stride)
    except LayoutError as error:
        raise SourceError(str(error)) from None
    return LeRobotSource(info, places, specification, camera, stride, image_size)


class LeRobotSource(Importer):
    """An opened LeRobot folder; use `open_source`."""

    def __init__(
        self,
        info: LeRobotInfo,
        places: list[EpisodePlace],
        specification: TrajectorySpecification,
        camera: str,
        stride: int,
        image_size: int | None,
    ) -> None:
        self._info = info
        self._places = places
        self._specification = specification
        self._camera = camera
        self._stride = stride
        self._image_size = image_size
        self._table, self._video = _OpenTable(), _OpenVideo()

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns what states and actions mean, as far as the folder says."""
        return self._specification

    @property
    def listed(self) -> Sequence[ListedEpisode]:
        """Returns the episodes in the order of their numbers: "episode-000000", ..."""
        names = [f"episode-{place.index:06d}" for place in self._places]
        return [
            ListedEpisode(name, name, tuple(filter(None, (place.data_file, place.video_file))))
            for name, place in zip(names, self._places, strict=True)
        ]

    def episode(self, number: int) -> Episode:
        """Reads an episode; its files stay open, as the next one most often lies in them too.

        Raises:
            SourceError: if rows, frames and times of the episode do not agree, or a file of its
                is missing.
            DecodeError: if a video or an image cannot be decoded.
        """
        place = self._places[number]
        for path in (place.data_file, place.video_file):
            if path is not None and not path.is_file():
                raise SourceError(f"{path} is missing; download it again")
        table = self._table.at(place.data_file)
        start = _first_row(place, table, self._info.frames_per_second)
        stop, kept = start + place.num_frames, np.arange(0, place.num_frames, self._stride)
        states = _numbers(table, STATE, start, stop, self._specification.state_dim)
        width = self._specification.action_dim // self._stride
        actions = _numbers(table, ACTION, start, stop, width)  # (num_frames, width)
        if place.video_file is None:
            frames = self._stored_images(place, table, start, kept)
        else:
            frames = self._video_frames(place, self._video.at(place.video_file), kept)
        return Episode(
            frames=frames,
            states=states[kept],
            actions=joined_actions(actions, self._stride),
            key=f"episode-{place.index:06d}",
            frames_per_second=self._specification.frames_per_second,
        )

    def close(self) -> None:
        """Closes the table and the video that were read last."""
        self._table.close()
        self._video.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": _OpenTable(), "_video": _OpenVideo()}

    def _video_frames(
        self, place: EpisodePlace, video: VideoDecoder, kept: np.ndarray
    ) -> np.ndarray:
        """Decodes an episode's frames, some at a time: (time, height, width, 3)."""
        first = _first_frame(place, video, self._info.frames_per_second)
        pieces = (
            video.frames_at(first + kept[at : at + _FRAMES_AT_ONCE]).pixels
            for at in range(0, len(kept), _FRAMES_AT_ONCE)
        )
        return _filled((resized(piece, self._image_size) for piece in pieces), len(kept))

    def _stored_images(
        self, place: EpisodePlace, table: ParquetReader, start: int, kept: np.ndarray
    ) -> np.ndarray:
        """Decodes the images in an episode's rows: (time, height, width, 3)."""
        cells = table.values(self._camera, start, start + place.num_frames)
        pieces = (
            resized(_image(cells[k], f"{place.data_file}: row {start + k}")[None], self._image_size)
            for k in kept
        )
        return _filled(pieces, len(kept))


class _OpenTable:
    """The Parquet file of the episode at hand; the one before is closed."""

    def __init__(self) -> None:
        self._table: ParquetReader | None = None

    def at(self, path: Path) -> ParquetReader:
        if self._table is None or self._table.path != path:
            self.close()
            self._table = ParquetReader(path)
        return self._table

    def close(self) -> None:
        if self._table is not None:
            self._table.close()
            self._table = None


class _OpenVideo:
    """The video file of the episode at hand, its bytes in memory; the one before is closed.

    A file that cannot be opened is not read again for each of its episodes.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._video: VideoDecoder | None = None
        self._fault: DecodeError | None = None

    def at(self, path: Path) -> VideoDecoder:
        if self._path != path:
            self.close()
            data = path.read_bytes()
            self._path = path
            try:
                self._video = decoder_class(_DECODER)(data, str(path))
            except DecodeError as error:
                self._fault = error
        if self._video is None:
            assert self._fault is not None
            raise self._fault
        return self._video

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
        self._path = self._video = self._fault = None


def _chosen_camera(info: LeRobotInfo, camera: str | None) -> str:
    cameras = info.cameras
    known = ", ".join(cameras) or "none"
    if camera is None:
        if len(cameras) == 1:
            return cameras[0]
        what = "no camera" if not cameras else f"{len(cameras)} cameras; choose one (--camera)"
        raise SourceError(f"{info.folder} has {what}: {known}")
    for name in (camera, f"observation.images.{camera}"):
        if name in cameras:
            return name
    raise SourceError(f"{info.folder} has no camera '{camera}'; it has {known}")


def _specification(
    info: LeRobotInfo, places: list[EpisodePlace], stride: int
) -> TrajectorySpecification:
    state, action = _column_feature(info, STATE), _column_feature(info, ACTION)
    names = _names(action, "action")
    low, high = _bounds(info, places, action, len(names))
    about = _about(action)
    return TrajectorySpecification(
        state_names=_names(state, "state"),
        state_units=_units(state),
        action_names=joined_names(names, stride),
        action_units=_units(action) * stride,
        action_low=low * stride,
        action_high=high * stride,
        frames_per_second=info.frames_per_second / stride,
        **{name: str(about[name]) for name in _MEANINGS if name in about},
    )


_MEANINGS = ("frame", "rotation", "gripper", "action_kind")


def _column_feature(info: LeRobotInfo, name: str) -> Mapping[str, Any]:
    feature = info.features.get(name)
    if feature is None:
        known = ", ".join(info.features)
        raise SourceError(f"{info.folder} has no feature '{name}'; it has {known}")
    shape = feature.get("shape")
    if not (isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int)):
        raise SourceError(f"{info.folder}: feature '{name}' must be (dim,), got shape {shape}")
    return feature


def _names(feature: Mapping[str, Any], stem: str) -> tuple[str, ...]:
    """Returns one name for each column; numbered ones if the folder's do not fit.

    LeRobot's recorders write a list, or {"motors": a list}, or {name: number}; or anything.
    """
    dim, names = feature["shape"][0], feature.get("names")
    if isinstance(names, dict):
        lists = [value for value in names.values() if isinstance(value, list)]
        names = lists[0] if len(lists) == 1 else list(names)
    if isinstance(names, list) and len(names) == dim:
        return tuple(str(name) for name in names)
    return tuple(f"{stem}_{column}" for column in range(dim))


def _units(feature: Mapping[str, Any]) -> tuple[str, ...]:
    dim, units = feature["shape"][0], _about(feature).get("units")
    if isinstance(units, list) and len(units) == dim:
        return tuple(str(unit) for unit in units)
    return ("1",) * dim


def _bounds(
    info: LeRobotInfo, places: list[EpisodePlace], action: Mapping[str, Any], dim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the least and greatest action: as our export wrote, or as in all of the data.

    A column that never changes gets one unit of room on both sides.
    """
    about = _about(action)
    low, high = _column(about.get("low"), dim), _column(about.get("high"), dim)
    if low is None or high is None:
        low, high = _recorded_bounds(info, places, dim)
    same = low >= high
    low, high = np.where(same, low - 1, low), np.where(same, high + 1, high)
    return tuple(low.tolist()), tuple(high.tolist())


def _recorded_bounds(
    info: LeRobotInfo, places: list[EpisodePlace], dim: int
) -> tuple[np.ndarray, np.ndarray]:
    path = info.folder / STATS_PATH
    stats = read_json(path).get(ACTION) if path.is_file() else None
    if isinstance(stats, dict):
        low, high = _column(stats.get("min"), dim), _column(stats.get("max"), dim)
        if low is not None and high is not None:
            return low, high
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    fault: Exception | None = None
    for data_file in dict.fromkeys(place.data_file for place in places):
        try:
            with ParquetReader(data_file) as table:
                actions = _numbers(table, ACTION, 0, table.num_rows, dim)
        except (ParquetError, SourceError, FileNotFoundError) as error:
            fault = error  # said when its episodes are read
            continue
        low, high = np.minimum(low, actions.min(0)), np.maximum(high, actions.max(0))
    if fault is not None and not np.isfinite(low).all():
        raise SourceError(str(fault))
    return low, high


def _column(values: object, dim: int) -> np.ndarray | None:
    """Returns finite numbers, one for each column, or None if these are none."""
    try:
        column = np.array(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return column if len(column) == dim and np.isfinite(column).all() else None


def _about(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    about = feature.get("info")
    return about if isinstance(about, dict) else {}


def _first_row(place: EpisodePlace, table: ParquetReader, frames_per_second: float) -> int:
    """Returns the row of an episode's first frame; its rows must follow each other in time.

    Raises:
        SourceError: if they do not, or are not as many as the episode is long.
    """
    name = f"{place.data_file}: episode {place.index}"
    rows = np.flatnonzero(table.numbers("episode_index")[:, 0] == place.index)
    if len(rows) != place.num_frames or len(rows) == 0:
        raise SourceError(f"{name} has {len(rows)} rows, meta/episodes says {place.num_frames}")
    start, stop = int(rows[0]), int(rows[-1]) + 1
    expected = np.arange(len(rows))
    if (
        stop - start != len(rows)
        or (table.numbers("frame_index", start, stop)[:, 0] != expected).any()
    ):
        raise SourceError(f"{name}: its rows are not in the order of frame_index, from 0 on")
    late = table.numbers("timestamp", start, stop)[:, 0] - expected / frames_per_second
    _refuse_other_times(late, frames_per_second, f"{name}: 'timestamp' of row")
    return start


def _first_frame(place: EpisodePlace, video: VideoDecoder, frames_per_second: float) -> int:
    """Returns the place of an episode's first frame in its file.

    Raises:
        SourceError: if the file ends before the episode, or if its frames are at other times.
    """
    name = f"{video.name}: episode {place.index}"
    first = round(place.from_seconds * frames_per_second)
    times = video.timestamps_seconds()
    stop = first + place.num_frames
    if first < 0 or stop > len(times):
        raise SourceError(
            f"{name} has frames {first} to {stop - 1}, the video has 0 to {len(times) - 1}"
        )
    expected = place.from_seconds + np.arange(place.num_frames) / frames_per_second
    _refuse_other_times(times[first:stop] - expected, frames_per_second, f"{name}: time of frame")
    return first


def _refuse_other_times(late: np.ndarray, frames_per_second: float, what: str) -> None:
    """Raises if something is half a frame or more from where counting frames puts it."""
    wrong = np.flatnonzero(~(np.abs(late) < 0.5 / frames_per_second))
    if len(wrong):
        raise SourceError(
            f"{what} {wrong[0]} is {late[wrong[0]]:+.4f} s from where {frames_per_second:g} frames "
            f"per second put it ({len(wrong)} of {len(late)} are)"
        )


def _numbers(table: ParquetReader, name: str, start: int, stop: int, dim: int) -> np.ndarray:
    """Returns rows of a column as float32: (rows, dim)."""
    values = table.numbers(name, start, stop)
    if values.shape[1] != dim:
        raise SourceError(
            f"{table.path}: '{name}' has {values.shape[1]} columns, meta/info.json says {dim}"
        )
    return values.astype(np.float32)


def _image(cell: object, name: str) -> np.ndarray:
    """Decodes a cell of an image column: {"bytes": a PNG, "path": its name before packing}."""
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise SourceError(f"{name} holds no image bytes; embed the images in the Parquet files")
    return decode_image(data, name)


def _filled(pieces: Iterator[np.ndarray], time: int) -> np.ndarray:
    """Joins pieces without holding them twice: (time, height, width, 3)."""
    frames, at = None, 0
    for piece in pieces:
        if frames is None:
            frames = np.empty((time, *piece.shape[1:]), dtype=np.uint8)
        if piece.shape[1:] != frames.shape[1:]:
            raise SourceError(
                f"frame {at} is {piece.shape[1:3]} pixels, those before {frames.shape[1:3]}"
            )
        frames[at : at + len(piece)] = piece
        at += len(piece)
    if frames is None:
        raise SourceError("an episode without frames")
    return frames
