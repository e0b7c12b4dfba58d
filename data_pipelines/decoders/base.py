"""The contract of a decoder, and how one is found by name.

A new decoder is a file `x_decoder.py` in this folder with one subclass of `VideoDecoder`; its name
is then "x". The folder is the only list of names there is.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_pipelines.frames import DecodeError, Frames, VideoMetadata


def decoder_names() -> tuple[str, ...]:
    """Returns the names of the decoders in this folder, installed or not."""
    files = Path(__file__).parent.glob("*_decoder.py")
    return tuple(sorted(file.name.removesuffix("_decoder.py") for file in files))


# A string to those who read it; the choices to those who ask (argparse, jsonargparse).
if TYPE_CHECKING:
    DecoderName = str
else:
    DecoderName = Literal[decoder_names()]

# Of one frame: twice what an 8K video has. A damaged or hostile header can claim a size of which
# every frame takes a gigabyte, and a decoder believes it.
MAX_PIXELS = 8192 * 8192

ContainerName = Literal["mp4", "matroska", "avi", "flv", "mpegts", "mpeg", "asf", "ogg"]

# These say where each frame lies and when it is shown. In the others a reader that seeks by
# counting, or by times that few packets have, lands on another frame and says nothing.
INDEXED_CONTAINERS = ("mp4", "matroska", "avi")

# In these every frame has its own time. In the others times are counted on from the last one that
# was said, and are off by a frame after a seek: they are decoded from the start, exact and slow.
STAMPED_CONTAINERS = (*INDEXED_CONTAINERS, "flv", "asf")

# The first box of an MP4 or QuickTime file is one of these.
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")


class VideoDecoder(ABC):
    """Reads one video held in memory. Open it where it is used, close it at once.

    Args:
        data: the video file's bytes.
        name: path or key, for error messages.

    Raises:
        DecodeError: if the bytes are no video this decoder can read.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.container = container_format(data, name)

    @abstractmethod
    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size. May decode one frame."""

    @abstractmethod
    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, increasing, the first one 0."""

    @abstractmethod
    def close(self) -> None:
        """Frees the decoder; nothing may be asked of it afterwards."""

    @abstractmethod
    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        """Returns the frames at indices that are increasing, unique and in range."""

    def frames_at(self, indices: Sequence[int] | np.ndarray) -> Frames:
        """Decodes frames by index.

        Args:
            indices: in any order, repeats allowed, each in [0, num_frames).

        Returns:
            The frames in the order asked.

        Raises:
            IndexError: if an index is outside the video.
            DecodeError: if a frame cannot be decoded.
        """
        wanted = np.asarray(indices, dtype=np.int64)  # (time,)
        timestamps_seconds = self.timestamps_seconds()
        num_frames = len(timestamps_seconds)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= num_frames):
            raise IndexError(
                f"{self.name}: frame indices from {wanted.min()} to {wanted.max()} asked, "
                f"the video has frames 0 to {num_frames - 1}"
            )
        unique, place = np.unique(wanted, return_inverse=True)
        pixels = self._decode(unique.tolist())  # (unique, height, width, 3)
        if pixels.shape[0] != len(unique):
            raise DecodeError(self.name, f"{pixels.shape[0]} of {len(unique)} frames decoded")
        same_order = len(unique) == len(wanted) and bool((place == np.arange(len(unique))).all())
        return Frames(pixels if same_order else pixels[place], timestamps_seconds[wanted])

    def __enter__(self) -> VideoDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decoder_class(name: str) -> type[VideoDecoder]:
    """Returns the decoder with this name; imports its library.

    Args:
        name: one of `decoder_names`.

    Raises:
        ValueError: if there is no such decoder.
        ImportError: if its library is not installed, or cannot be loaded.
    """
    if name not in decoder_names():
        raise ValueError(f"no decoder named '{name}'; choose from {', '.join(decoder_names())}")
    module = importlib.import_module(f"data_pipelines.decoders.{name}_decoder")
    for member in vars(module).values():
        if isinstance(member, type) and member.__module__ == module.__name__:
            if issubclass(member, VideoDecoder):
                return member
    raise ValueError(f"{module.__name__} defines no VideoDecoder")


def container_format(data: bytes, name: str) -> ContainerName:
    """Names the container by its first bytes, so that a text file never reaches a decoder.

    Raises:
        DecodeError: if the bytes begin no container that we read: MP4/MOV/3GP, Matroska/WebM, AVI,
            Flash, MPEG streams, ASF (WMV), Ogg.
    """
    if len(data) == 0:
        raise DecodeError(name, "the file is empty")
    if data[4:8] in _ISO_BOXES:
        return "mp4"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    for beginning, container in _BEGINNINGS.items():
        if data.startswith(beginning):
            return container
    for packet_bytes, sync in ((188, 0), (192, 4)):  # the second with a time before each (M2TS)
        if data[sync::packet_bytes][:4] == b"\x47" * 4:
            return "mpegts"
    raise DecodeError(
        name, f"not a video: begins with {data[:8].hex(' ')}, no MP4, WebM, AVI or another known"
    )


_BEGINNINGS: dict[bytes, ContainerName] = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"OggS": "ogg",
}


def refuse_huge_frames(name: str, *, height: int, width: int) -> None:
    """Raises DecodeError if a video claims frames of more than `MAX_PIXELS`."""
    if height * width > MAX_PIXELS:
        raise DecodeError(
            name,
            f"claims frames of {width} x {height} pixels; at most {MAX_PIXELS} pixels are decoded",
        )


def metadata_from_timestamps(
    timestamps_seconds: np.ndarray, duration_seconds: float, *, height: int, width: int
) -> VideoMetadata:
    """Builds the metadata; the average rate is frames over duration."""
    num_frames = len(timestamps_seconds)
    return VideoMetadata(num_frames, num_frames / duration_seconds, duration_seconds, height, width)


def checked_timestamps(timestamps_seconds: np.ndarray, name: str) -> np.ndarray:
    """Counts times from the first frame, and refuses times that do not increase.

    Raises:
        DecodeError: if there is no frame, or if times are not finite and increasing.
    """
    if len(timestamps_seconds) == 0:
        raise DecodeError(name, "the video has no frames")
    shifted = np.asarray(timestamps_seconds, dtype=np.float64) - float(timestamps_seconds[0])
    if not np.isfinite(shifted).all() or (np.diff(shifted) <= 0).any():
        raise DecodeError(name, "frame times do not increase")
    return shifted
