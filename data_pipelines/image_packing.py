"""Pictures beside videos: a sample is one picture, as its file is or made smaller."""

from __future__ import annotations

import io
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.images import decode_image
from data_pipelines.manifest import SkippedVideo, VideoRow
from data_pipelines.pack_plan import ImagePackSettings, PlannedVideo
from data_pipelines.samples import Sample
from data_pipelines.shard_jobs import Packed, Packer
from data_pipelines.shard_writing import sample_json
from data_pipelines.video_sources import read_source

JPEG_QUALITY = 95
_EXTENSION_OF_FORMAT = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}


class Picture(NamedTuple):
    """A picture's file and what it shows.

    Attributes:
        data: the file.
        pixels: (height, width, 3), uint8, upright.
        extension: "jpg", "png" or "webp".
    """

    data: bytes
    pixels: np.ndarray
    extension: str

    @property
    def metadata(self) -> VideoMetadata:
        """Returns the metadata of a video of one frame that lasts one second."""
        return VideoMetadata(1, 1.0, 1.0, *self.pixels.shape[:2])


class ImageProbe:
    """Looks at pictures as `ProbeProcess` looks at videos, but needs no child process.

    Args:
        root: folder that the pictures' paths are relative to, or a URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def read_row(self, path: str) -> VideoRow | SkippedVideo:
        """Returns the row of a picture, or why it cannot be read."""
        picture = read_picture(self.root, path)
        if isinstance(picture, SkippedVideo):
            return picture
        return VideoRow(path, picture.metadata, Path(path).parent.name or None)

    def kill(self) -> None:
        """Does nothing: there is no child."""

    def close(self) -> None:
        """Does nothing: there is nothing to free."""


class ImagePacker(Packer):
    """Copies pictures or makes them smaller, in the worker itself."""

    def __init__(self, root: str, settings: ImagePackSettings) -> None:
        super().__init__(root)
        self.settings = settings

    def pack(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        """Returns the sample of a picture, or why it cannot be read."""
        picture, more = read_picture(self.root, video.source.path), {}
        if isinstance(picture, SkippedVideo):
            return [picture]
        if self.settings.short_side is not None:
            original = {**asdict(picture.metadata), "num_bytes": len(picture.data)}
            pixels = shrunk(picture.pixels, self.settings.short_side)
            picture, more = Picture(jpeg_bytes(pixels), pixels, "jpg"), {"original": original}
        source = video.source
        sample = Sample(
            video.key,
            "",
            {},
            picture.metadata,
            label=source.label,
            source=source.path,
            group=source.group,
        )
        about = sample_json(sample, num_bytes=len(picture.data), **more)
        return [(sample, {picture.extension: picture.data, "json": about})]


def read_picture(root: str, path: str) -> Picture | SkippedVideo:
    """Reads a picture, or says why it cannot be read.

    Args:
        root: folder or URL.
        path: relative to it.
    """
    try:
        data = read_source(root, path)
        return Picture(data, decode_image(data, path), extension_of(data, path))
    except DecodeError as error:
        return SkippedVideo(path, error.reason)
    except OSError as error:
        return SkippedVideo(path, error.strerror or str(error))


def extension_of(data: bytes, name: str) -> str:
    """Returns "jpg", "png" or "webp" by the bytes, whatever the file is called.

    Raises:
        DecodeError: if it is an image of another format.
    """
    with Image.open(io.BytesIO(data)) as image:
        kind = str(image.format)
    if kind not in _EXTENSION_OF_FORMAT:
        raise DecodeError(name, f"a picture of format {kind}; shards hold JPEG, PNG and WebP")
    return _EXTENSION_OF_FORMAT[kind]


def shrunk(pixels: np.ndarray, short_side: int) -> np.ndarray:
    """Returns a picture whose short side is at most this, its aspect ratio kept.

    Args:
        pixels: (height, width, 3), uint8.
        short_side: in pixels; nothing is made larger.
    """
    height, width = pixels.shape[:2]
    if short_side >= min(height, width):
        return pixels
    scale = Fraction(short_side, min(height, width))
    size = (_rounded(width * scale), _rounded(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def jpeg_bytes(pixels: np.ndarray) -> bytes:
    """Returns a JPEG file of a picture: (height, width, 3), uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _rounded(length: Fraction) -> int:
    return int(length + Fraction(1, 2))
