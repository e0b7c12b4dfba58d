"""DAVIS 2017: videos with the masks of their objects, as folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.dense_labels import IGNORED, DenseClip
from data_pipelines.dense_readers.base import DenseSource, one_size
from data_pipelines.images import read_image, read_pixel_values
from data_pipelines.importers.base import SourceError

SUMMARY = "DAVIS 2017: JPEGImages/480p/VIDEO/*.jpg and Annotations/480p/VIDEO/*.png"
PICTURES, LABELS = "JPEGImages", "Annotations"
VOID = 255  # a pixel of a mask that belongs to nothing
FRAMES_PER_SECOND = 24.0


def open_source(source: Path) -> DavisVideos:
    """Opens a folder; see `base`. Of several resolutions the one called 480p is taken.

    Raises:
        SourceError: if it has no such folders, or no video has masks.
    """
    if not (source / PICTURES).is_dir() or not (source / LABELS).is_dir():
        raise SourceError(f"{source}: no folders {PICTURES} and {LABELS}")
    pictures, labels = (_resolution(source / name) for name in (PICTURES, LABELS))
    videos = [
        path for path in sorted(labels.iterdir()) if path.is_dir() and any(path.glob("*.png"))
    ]
    videos = [path for path in videos if (pictures / path.name).is_dir()]
    if not videos:
        raise SourceError(f"{labels}: no folder of masks (*.png) that has pictures in {pictures}")
    return DavisVideos(pictures, tuple(videos))


def _resolution(folder: Path) -> Path:
    return folder / "480p" if (folder / "480p").is_dir() else folder


@dataclass(frozen=True)
class DavisVideos(DenseSource):
    """The videos of a folder, by name.

    Attributes:
        pictures: holds a folder of pictures for each video.
        videos: folders of masks.
    """

    pictures: Path
    videos: tuple[Path, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def clip(self, number: int) -> DenseClip:
        """Reads a video; frames without a mask are left out. See `base`.

        Raises:
            SourceError: if a mask has no picture, or sizes differ.
        """
        video = self.videos[number]
        frames, masks = [], []
        for path in sorted(video.glob("*.png")):
            picture = self.pictures / video.name / f"{path.stem}.jpg"
            if not picture.is_file():
                raise SourceError(f"{path}: there is no picture {picture}")
            frames.append(read_image(picture))
            masks.append(read_pixel_values(path))
        one_size(str(video), {array.shape[:2] for array in (*frames, *masks)})
        object_ids = np.stack(masks).astype(np.uint16)
        return DenseClip(
            key=video.name,
            frames=np.stack(frames),
            object_ids=np.where(object_ids == VOID, np.uint16(IGNORED), object_ids),
            frames_per_second=FRAMES_PER_SECOND,
        )
