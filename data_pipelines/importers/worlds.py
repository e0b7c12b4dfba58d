"""stable-worldmodel's data sets: one HDF5 file, or a folder of columns beside videos or images.

Every column is one array over all steps of all episodes; `ep_len` and `ep_offset` say which rows
are an episode's. Read from stable-worldmodel's writers (commit addbab4, 2026-08):

    set.h5      ep_len, ep_offset, action, proprio, ...; pixels (steps, height, width, 3) uint8
    folder      ep_len.npz, ep_offset.npz, action.npz, proprio.npz, ...; each holds one `arr_0`
        pixels/ep_0.mp4                 video of an episode, or
        pixels/ep_0_step_0.jpeg         image of a step

Their own default, Lance, is not read here: convert it with `swm.data.convert(..., "set.h5",
dest_format="hdf5")`. Published HDF5 files may be compressed with a filter that needs hdf5plugin.

Row t holds a frame and the action that was applied to it; the last action of an episode is a
placeholder (NaN) and is left out. States are the columns "proprio", else "state", else
"observation"; without them there are no states. The units of columns are not written down.

No file says how fast it was recorded: the rate of a video is its writer's taste. So
`frames_per_second` has another meaning here: it is the source's rate, 10 unless said (that of
stable-worldmodel's PushT and TwoRoom), and every frame is kept.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipelines.decoders import decoder_class
from data_pipelines.hdf5_files import (
    HDF5_EXTENSIONS,
    bounds_of_actions,
    has_array,
    hdf5_files,
    open_hdf5,
    read_array,
)
from data_pipelines.images import read_image
from data_pipelines.importers.base import (
    Importer,
    ListedEpisode,
    SourceError,
    refuse_bad_image_size,
    resized,
)
from data_pipelines.trajectories import Episode, TrajectorySpecification

SUMMARY = "stable-worldmodel: HDF5, or a folder of .npz columns with videos or images"

USUAL_RATE = 10.0

_LENGTHS, _OFFSETS, _ACTION = "ep_len", "ep_offset", "action"
_STATES = ("proprio", "state", "observation")
_IMAGE_SUFFIXES = (".jpeg", ".jpg")


def open_source(
    source: str | Path,
    *,
    camera: str | None = None,
    frames_per_second: float | None = None,
    image_size: int | None = None,
) -> WorldsImporter:
    """Opens a file or a folder; reads all actions for their bounds.

    Args:
        source: an HDF5 file, a folder that holds one, or a folder of columns.
        camera: name of the column of images; None: "pixels", or the only one.
        frames_per_second: the source's rate, which it does not say; None: 10.
        image_size: height and width of the frames in pixels; None: as recorded.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        SourceError: if it is not of this layout, or if an option does not fit.
        ImportError: if it is HDF5 and h5py is not installed.
    """
    refuse_bad_image_size(image_size)
    rate = USUAL_RATE if frames_per_second is None else frames_per_second
    if not 0 < rate <= 1000:
        raise SourceError(f"frames_per_second must be in (0, 1000], got {rate:g}")
    columns = _columns_of(Path(source))
    camera = _chosen_camera(columns, camera)
    lengths = columns.rows(_LENGTHS, slice(None)).astype(np.int64).reshape(-1)
    offsets = columns.rows(_OFFSETS, slice(None)).astype(np.int64).reshape(-1)
    if len(lengths) != len(offsets) or not len(lengths):
        raise SourceError(
            f"{source}: {len(lengths)} {_LENGTHS} for {len(offsets)} {_OFFSETS}; must be as many, "
            "and at least one"
        )
    spans = tuple(zip(offsets.tolist(), (offsets + lengths).tolist(), strict=True))
    state = next((name for name in _STATES if name in columns.names), None)
    state_dim = _flat(columns.rows(state, slice(0, 1))).shape[1] if state else 0
    bounds = bounds_of_actions(*_extremes(columns, spans))
    return WorldsImporter(columns, spans, camera, state, state_dim, bounds, rate, image_size)


class _Columns(Protocol):
    """A data set's columns, wherever they are kept."""

    source: Path

    @property
    def names(self) -> list[str]:
        """Names of the columns of numbers."""
        ...

    @property
    def cameras(self) -> list[str]:
        """Names of the columns of images."""
        ...

    def rows(self, name: str, rows: slice) -> np.ndarray:
        """Rows of a column of numbers, of all episodes."""
        ...

    def frames(self, camera: str, episode_index: int, rows: slice) -> np.ndarray:
        """Frames of one episode: (time, height, width, 3), uint8."""
        ...

    def files(self, camera: str, episode_index: int) -> tuple[Path, ...]:
        """Files that an episode is read from, or the first of many."""
        ...


@dataclass(frozen=True)
class WorldsImporter(Importer):
    """The episodes of a data set.

    Attributes:
        columns: where they are kept.
        spans: first row of each episode, and the row after its last.
        camera: name of the column of images.
        state: name of the column of states, or None.
        state_dim: how many numbers a state has.
        bounds: of the recorded actions, low and high.
        frames_per_second: as said by who opened it.
        image_size: of the frames in pixels, or None.
    """

    columns: _Columns
    spans: tuple[tuple[int, int], ...]
    camera: str
    state: str | None
    state_dim: int
    bounds: tuple[tuple[float, ...], ...]
    frames_per_second: float
    image_size: int | None

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns the names of the columns; the source says no more of what they mean."""
        action_dim = len(self.bounds[0])
        return TrajectorySpecification(
            state_names=tuple(f"{self.state}_{i}" for i in range(self.state_dim)),
            state_units=("1",) * self.state_dim,
            action_names=tuple(f"{_ACTION}_{i}" for i in range(action_dim)),
            action_units=("1",) * action_dim,
            action_low=self.bounds[0],
            action_high=self.bounds[1],
            frames_per_second=self.frames_per_second,
        )

    @cached_property
    def listed(self) -> Sequence[ListedEpisode]:
        """Returns the episodes in the order of the file: "episode-000000", ..."""
        names = [f"episode-{index:06d}" for index in range(len(self.spans))]
        files = [self.columns.files(self.camera, index) for index in range(len(self.spans))]
        return [ListedEpisode(name, name, one) for name, one in zip(names, files, strict=True)]

    def episode(self, number: int) -> Episode:
        """Reads an episode.

        Raises:
            SourceError: if frames or rows are missing, or actions are not finite.
            DecodeError: if a video or an image cannot be read.
        """
        start, stop = self.spans[number]
        where = f"{self.columns.source}: episode {number}"
        _refuse_bad_span(where, start, stop)
        rows = slice(start, stop)
        actions = _flat(self.columns.rows(_ACTION, rows))
        states = np.zeros((len(actions), 0))
        if self.state is not None:
            states = _flat(self.columns.rows(self.state, rows))
        counts = {"actions": len(actions), "states": len(states)}
        if set(counts.values()) == {stop - start}:  # else the frames are not worth decoding
            frames = self.columns.frames(self.camera, number, rows)
            counts = {"frames": len(frames), **counts}
        if set(counts.values()) != {stop - start}:
            raise SourceError(
                f"{where} is {stop - start} steps long and has {counts}; all must be equal"
            )
        if not np.isfinite(actions[:-1]).all():
            raise SourceError(f"{where}: '{_ACTION}' is not finite before its last row")
        return Episode(
            frames=resized(frames, self.image_size),
            states=states.astype(np.float32),
            actions=actions[:-1].astype(np.float32),
            key=self.listed[number].key,
            frames_per_second=self.frames_per_second,
            group=self.listed[number].key,
        )


class _Hdf5Columns:
    """Columns in one HDF5 file."""

    def __init__(self, path: Path) -> None:
        self.source = path
        with open_hdf5(path) as file:
            arrays = {name: file[name] for name in file if has_array(file, name)}
            is_image = {
                name: array.ndim == 4 and array.dtype == np.uint8 for name, array in arrays.items()
            }
        self.names = [name for name in arrays if not is_image[name]]
        self.cameras = [name for name in arrays if is_image[name]]
        missing = [name for name in (_LENGTHS, _OFFSETS, _ACTION) if name not in self.names]
        if missing:
            raise SourceError(f"{path}: no {', '.join(missing)}; is it stable-worldmodel's?")

    def rows(self, name: str, rows: slice) -> np.ndarray:
        with open_hdf5(self.source) as file:
            return read_array(file, name, rows=rows)

    def frames(self, camera: str, episode_index: int, rows: slice) -> np.ndarray:
        return _three_colours(self.rows(camera, rows), f"{self.source}: '{camera}'")

    def files(self, camera: str, episode_index: int) -> tuple[Path, ...]:
        return (self.source,)


class _FolderColumns:
    """Columns in .npz files, and images or videos in folders."""

    def __init__(self, folder: Path) -> None:
        self.source = folder
        self._loaded: dict[str, np.ndarray] = {}
        self.names = sorted(path.stem for path in folder.glob("*.npz"))
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
        self.cameras = [path.name for path in folders if any(path.glob("ep_0[._]*"))]
        missing = [name for name in (_LENGTHS, _OFFSETS, _ACTION) if name not in self.names]
        if missing:
            files = ", ".join(f"{name}.npz" for name in missing)
            raise SourceError(f"{folder}: no {files}; is it stable-worldmodel's?")

    def rows(self, name: str, rows: slice) -> np.ndarray:
        if name not in self._loaded:
            self._loaded[name] = _npz_array(self.source / f"{name}.npz")
        return self._loaded[name][rows]

    def frames(self, camera: str, episode_index: int, rows: slice) -> np.ndarray:
        folder, time = self.source / camera, rows.stop - rows.start
        video = folder / f"ep_{episode_index}.mp4"
        if video.is_file():
            return _video_frames(video, time)
        paths = [_image_path(folder, f"ep_{episode_index}_step_{step}") for step in range(time)]
        return np.stack([read_image(path) for path in paths])

    def files(self, camera: str, episode_index: int) -> tuple[Path, ...]:
        video = self.source / camera / f"ep_{episode_index}.mp4"
        return (self.source / f"{_ACTION}.npz", *([video] if video.is_file() else []))


def _columns_of(source: Path) -> _Columns:
    if source.suffix == ".lance" or (source / "_versions").is_dir():
        raise SourceError(
            f"{source}: Lance is not read here; convert it first: swm.data.convert('{source}', "
            "'set.h5', dest_format='hdf5')"
        )
    if source.is_dir() and any(source.glob("*.npz")):
        return _FolderColumns(source)
    if source.is_file() and source.suffix.lower() not in HDF5_EXTENSIONS:
        raise SourceError(f"{source}: must be an HDF5 file (.h5, .hdf5) or a folder of columns")
    files = hdf5_files(source)
    if len(files) > 1:
        raise SourceError(f"{source}: {len(files)} HDF5 files; name one, such as {files[0]}")
    return _Hdf5Columns(files[0])


def _chosen_camera(columns: _Columns, camera: str | None) -> str:
    cameras = columns.cameras
    if camera is None:
        camera = cameras[0] if len(cameras) == 1 else "pixels"
    if camera not in cameras:
        there = ", ".join(cameras) or "none"
        raise SourceError(f"{columns.source}: no column of images '{camera}'; there are: {there}")
    return camera


def _extremes(
    columns: _Columns, spans: tuple[tuple[int, int], ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the least and greatest value of each action column, last actions left out.

    Episodes whose actions cannot be used do not count.
    """
    actions = _flat(columns.rows(_ACTION, slice(None)))  # (steps, action_dim)
    is_used = np.zeros(len(actions), dtype=bool)
    for start, stop in spans:
        if 0 <= start < stop <= len(actions) and np.isfinite(actions[start : stop - 1]).all():
            is_used[start : stop - 1] = True
    used = actions[is_used]
    if not len(used):
        raise SourceError(
            f"{columns.source}: '{_ACTION}' is empty, or in no episode finite and long enough"
        )
    return used.min(0), used.max(0)


def _refuse_bad_span(where: str, start: int, stop: int) -> None:
    if start < 0 or stop - start < 2:
        raise SourceError(
            f"{where} begins at row {start} and is {stop - start} steps long; must begin at 0 or "
            "later, and be at least 2 long"
        )


def _flat(values: np.ndarray) -> np.ndarray:
    """Returns one row of numbers for each step: (steps, dim)."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _npz_array(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["arr_0"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from None


def _video_frames(path: Path, time: int) -> np.ndarray:
    with decoder_class("decord")(path.read_bytes(), str(path)) as video:
        num_frames = len(video.timestamps_seconds())
        if num_frames != time:
            raise SourceError(f"{path}: {num_frames} frames for {time} steps")
        return video.frames_at(range(time)).pixels


def _image_path(folder: Path, stem: str) -> Path:
    for suffix in _IMAGE_SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise SourceError(f"{folder / stem}.jpeg: no such image, nor a video of the episode")


def _three_colours(frames: np.ndarray, where: str) -> np.ndarray:
    """Returns frames with three colours; grey ones (one colour) are repeated."""
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise SourceError(f"{where} must be (steps, height, width, 3), is {frames.shape}")
    return frames if frames.shape[-1] == 3 else frames.repeat(3, axis=-1)
