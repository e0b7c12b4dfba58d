"""TAP-Vid: videos with points that are followed, as its pickles hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.dense_labels import DenseClip
from data_pipelines.dense_readers.base import DenseSource, one_size
from data_pipelines.dense_readers.plain_pickle import read_plain_pickle
from data_pipelines.images import decode_image
from data_pipelines.importers.base import SourceError

SUMMARY = "TAP-Vid's .pkl (DAVIS, RGB-stacking, a shard of Kinetics), read without running it"
PARTS = ("video", "points", "occluded")
FRAMES_PER_SECOND = 24.0


def open_source(source: Path) -> TapVidFile:
    """Opens a file, which is read whole; see `base`.

    Raises:
        SourceError: if it is no such pickle.
    """
    if not source.is_file() or source.suffix != ".pkl":
        raise SourceError(f"{source}: no .pkl file")
    content = read_plain_pickle(source)
    if isinstance(content, list):
        content = {f"{source.stem}-{number:05d}": video for number, video in enumerate(content)}
    if not isinstance(content, dict) or not content:
        raise SourceError(f"{source}: must hold a dictionary or a list of videos")
    for name, video in content.items():
        if not isinstance(video, dict) or any(part not in video for part in PARTS):
            raise SourceError(f"{source}: {name} must be a dictionary with {', '.join(PARTS)}")
    return TapVidFile(source, content)


@dataclass(frozen=True)
class TapVidFile(DenseSource):
    """The videos of a file.

    Attributes:
        file: as opened.
        videos: by name: "video" (time, height, width, 3) or compressed pictures, "points"
            (points, time, 2) in shares of width and height, "occluded" (points, time).
    """

    file: Path
    videos: dict[str, dict[str, Any]]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(str(name) for name in self.videos)

    def clip(self, number: int) -> DenseClip:
        """Reads a video; points that are never seen are left out. See `base`."""
        key = self.keys[number]
        video = list(self.videos.values())[number]
        where = f"{self.file}: {key}"
        frames = _frames(video["video"], where)
        points, occluded = np.asarray(video["points"]), np.asarray(video["occluded"])
        if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
            raise SourceError(
                f"{where}: points must be (points, time, 2) and occluded (points, time), are "
                f"{points.shape} and {occluded.shape}"
            )
        tracks = (points * np.array(frames.shape[2:0:-1])).astype(np.float32)
        is_inside = ((points >= 0) & (points <= 1)).all(-1)
        is_visible = ~occluded.astype(bool) & is_inside
        is_seen = is_visible.any(1)
        try:
            return DenseClip(
                key=key,
                frames=frames,
                tracks=tracks[is_seen],
                is_visible=is_visible[is_seen],
                frames_per_second=FRAMES_PER_SECOND,
            )
        except ValueError as error:
            raise SourceError(f"{where}: {error}") from None


def _frames(video: Any, where: str) -> np.ndarray:  # noqa: ANN401
    """Returns (time, height, width, 3) uint8 of an array, or of compressed pictures."""
    if isinstance(video, np.ndarray):
        return video
    if not isinstance(video, list) or not all(isinstance(frame, bytes) for frame in video):
        raise SourceError(f"{where}: its video is neither an array nor compressed pictures")
    frames = [decode_image(data, f"{where}, frame {time}") for time, data in enumerate(video)]
    one_size(where, {frame.shape for frame in frames})
    return np.stack(frames)
