"""Pictures beside videos: a sample is one picture, as its file is or made smaller."""

from __future__ import annotations

import io
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.images import decode_image
from data_pipelines.manifest import SkippedVideo, VideoRow
from data_pipelines.pack_plan import ImagePackSettings, PlannedVideo
from data_pipelines.samples import Sample
from data_pipelines.shard_jobs import Packed, Packer, read_planned
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

    @property
    def about_original(self) -> dict[str, Any]:
        """Returns what the JSON of a smaller picture says of this one."""
        return {**asdict(self.metadata), "num_bytes": len(self.data)}


class ImageProbe:
    """Looks at pictures as `ProbeProcess` looks at videos, but needs no child process.

    Args:
        root: folder that the pictures' paths are relative to, or a URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def read_row(self, path: str, data: bytes | None = None) -> VideoRow | SkippedVideo:
        """Returns the row of a picture, or why it cannot be read; its bytes may be at hand."""
        picture = read_picture(self.root, path) if data is None else usable_picture(data, path)
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
        data, more = read_planned(self.root, video), {}
        if isinstance(data, SkippedVideo):
            return [data]
        picture = usable_picture(data, video.source.path)
        if isinstance(picture, SkippedVideo):
            return [picture]
        if self.settings.short_side is not None:
            more = {"original": picture.about_original}
            picture = smaller_picture(picture, self.settings.short_side)
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
    except OSError as error:
        return SkippedVideo(path, error.strerror or str(error))
    return usable_picture(data, path)


def usable_picture(data: bytes, path: str) -> Picture | SkippedVideo:
    """Decodes a picture's file, or says why that cannot be."""
    try:
        return picture_of(data, path)
    except DecodeError as error:
        return SkippedVideo(path, error.reason)


def picture_of(data: bytes, name: str) -> Picture:
    """Decodes a picture's file.

    Raises:
        DecodeError: if it is no picture, is damaged, or is of a format that shards do not hold.
    """
    return Picture(data, decode_image(data, name), extension_of(data, name))


def smaller_picture(picture: Picture, short_side: int) -> Picture:
    """Returns a picture as JPEG whose short side is at most this; see `shrunk`."""
    pixels = shrunk(picture.pixels, short_side)
    return Picture(jpeg_bytes(pixels), pixels, "jpg")


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
