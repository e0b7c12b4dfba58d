"""Clips with a label at every pixel, and points that are followed: one format on disk.

A clip is one `.npz` file of plain arrays, a data set a folder of them. Nothing in it is a pickle:
reading one runs no code. Coordinates are pixels, x to the right and y down, and (0, 0) is the
corner of the picture: the middle of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_pipelines.frames import one_line
from data_pipelines.importers.base import SourceError

FORMAT = "dense-clip-1"
SUFFIX = ".npz"
IGNORED = 65535  # an object id: what is here is not scored
MAX_CLIP_BYTES = 4 * 2**30  # unpacked; more is a mistake, or a file made to fill the memory

DepthUnit = Literal["metre", "relative"]

_KEY = re.compile(r"[\w][\w.-]*")
_ARRAYS = ("frames", "object_ids", "depth", "tracks", "is_visible")
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class DenseClip:
    """Frames, and what is known of their pixels; what is not known is None.

    Attributes:
        key: name of the clip: letters, digits, "_", "-" and ".".
        frames: (time, height, width, 3), uint8, RGB.
        object_ids: (time, height, width), uint16: 0 is the background, `IGNORED` is not scored.
        object_classes: the class of every object id, the background's first; () if unknown.
        class_names: names of the classes; () if unknown.
        depth: (time, height, width), float32, along the direction of view; NaN where unknown.
        depth_unit: "metre", or "relative" if only ratios mean anything.
        tracks: (points, time, 2), float32: x and y in pixels; anything where a point is hidden.
        is_visible: (points, time), bool: the point is in the picture and nothing is before it.
        frames_per_second: 0 if unknown, as of single pictures.

    Raises:
        ValueError: if shapes, types or ranges do not fit one another.
    """

    key: str
    frames: np.ndarray
    object_ids: np.ndarray | None = None
    object_classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    depth: np.ndarray | None = None
    depth_unit: DepthUnit = "metre"
    tracks: np.ndarray | None = None
    is_visible: np.ndarray | None = None
    frames_per_second: float = 0.0

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"key must be letters, digits, '_', '-' and '.', got {self.key!r}")
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise ValueError(
                "frames must be (time, height, width, 3) uint8, got "
                f"{self.frames.shape} {self.frames.dtype}"
            )
        if not self.frames.size:
            raise ValueError(f"frames must not be empty, got shape {self.frames.shape}")
        if not (math.isfinite(self.frames_per_second) and self.frames_per_second >= 0):
            raise ValueError(f"frames_per_second must be at least 0, got {self.frames_per_second}")
        self._refuse_wrong_objects()
        self._refuse_wrong_depth()
        self._refuse_wrong_tracks()

    @property
    def classes(self) -> np.ndarray | None:
        """The class of every pixel: (time, height, width), uint16; None if classes are unknown."""
        if self.object_ids is None or not self.object_classes:
            return None
        table = np.full(IGNORED + 1, IGNORED, dtype=np.uint16)
        table[: len(self.object_classes)] = self.object_classes
        return table[self.object_ids]

    @property
    def query_frames(self) -> np.ndarray:
        """(points,), int: where each point is seen first, and asked for ("query first")."""
        if self.is_visible is None:
            raise ValueError(f"{self.key} has no tracks")
        return self.is_visible.argmax(1)

    def _refuse_wrong_objects(self) -> None:
        if self.object_ids is None:
            if self.object_classes:
                raise ValueError("object_classes need object_ids")
            return
        _refuse_other_array("object_ids", self.object_ids, self.frames.shape[:3], np.uint16)
        if not self.object_classes:
            return
        known = self.object_ids[self.object_ids != IGNORED]
        if known.size and int(known.max()) >= len(self.object_classes):
            raise ValueError(
                f"object_ids go to {known.max()}, but object_classes name "
                f"{len(self.object_classes)} objects, from 0"
            )
        wrong = [number for number in self.object_classes if not self._is_class(number)]
        if wrong:
            raise ValueError(
                f"object_classes must be from 0 to {len(self.class_names) - 1}, the classes of "
                f"class_names, or {IGNORED}; got {wrong[0]}"
            )

    def _is_class(self, number: int) -> bool:
        return 0 <= number < len(self.class_names) or number == IGNORED

    def _refuse_wrong_depth(self) -> None:
        if self.depth_unit not in ("metre", "relative"):
            raise ValueError(f"depth_unit must be metre or relative, got {self.depth_unit!r}")
        if self.depth is None:
            return
        _refuse_other_array("depth", self.depth, self.frames.shape[:3], np.float32)
        known = self.depth[~np.isnan(self.depth)]
        if known.size and not (np.isfinite(known).all() and known.min() > 0):
            raise ValueError("depth must be finite and above 0, or NaN where it is not known")

    def _refuse_wrong_tracks(self) -> None:
        if (self.tracks is None) != (self.is_visible is None):
            raise ValueError("tracks and is_visible must be given together")
        if self.tracks is None or self.is_visible is None:
            return
        if self.tracks.ndim != 3:
            raise ValueError(f"tracks must be (points, time, 2), got {self.tracks.shape}")
        shape = (len(self.tracks), len(self.frames))
        _refuse_other_array("tracks", self.tracks, (*shape, 2), np.float32)
        _refuse_other_array("is_visible", self.is_visible, shape, np.bool_)
        size = np.array(self.frames.shape[2:0:-1], dtype=np.float32)  # width, height
        seen = self.tracks[self.is_visible]
        if not ((seen >= 0) & (seen <= size)).all():
            raise ValueError("tracks must be inside the picture wherever is_visible is True")
        if not self.is_visible.any(1).all():
            raise ValueError("every track must be visible in one frame at least")


def _refuse_other_array(
    name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
        )


def write_dense_clip(clip: DenseClip, folder: str | Path) -> Path:
    """Writes a clip as `folder/KEY.npz`; the file appears whole or not at all.

    Returns:
        The path.
    """
    about = {
        "format": FORMAT,
        "key": clip.key,
        "object_classes": [int(number) for number in clip.object_classes],
        "class_names": list(clip.class_names),
        "depth_unit": clip.depth_unit,
        "frames_per_second": clip.frames_per_second,
    }
    arrays = {name: getattr(clip, name) for name in _ARRAYS if getattr(clip, name) is not None}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    path = Path(folder) / f"{clip.key}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(unfinished, path)
    return path


def read_dense_clip(path: str | Path) -> DenseClip:
    """Reads a clip that `write_dense_clip` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        SourceError: if it is another kind of file, damaged, or holds what does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no clip {path}")
    try:
        _refuse_a_large_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in _ARRAYS}
            about = _read_about(archive)
        return DenseClip(**about, **arrays)
    except _UNREADABLE as error:
        raise SourceError(f"{path}: no clip with dense labels: {one_line(str(error))}") from None


def _refuse_a_large_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_CLIP_BYTES:
        raise ValueError(f"it holds {size:,} bytes, more than {MAX_CLIP_BYTES:,}")


def _read_about(archive: Any) -> dict[str, Any]:  # noqa: ANN401
    """Returns the fields of a clip that are no arrays."""
    if "about" not in archive.files or "frames" not in archive.files:
        raise ValueError(f"it has no 'about' and 'frames', but {', '.join(archive.files)}")
    about = json.loads(archive["about"].tobytes())
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"its 'about' is not of the format {FORMAT}")
    return {
        "key": str(about["key"]),
        "object_classes": tuple(int(number) for number in about["object_classes"]),
        "class_names": tuple(str(name) for name in about["class_names"]),
        "depth_unit": about["depth_unit"],
        "frames_per_second": float(about["frames_per_second"]),
    }
