"""A folder of videos becomes rows: what can be read, and what cannot and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.video_sources import VIDEO_EXTENSIONS, find_videos, read_source

__all__ = [
    "VIDEO_EXTENSIONS",
    "Manifest",
    "SkippedVideo",
    "VerifyFrames",
    "VideoRow",
    "find_videos",
    "probe",
    "read_row",
    "scan_folder",
]

VerifyFrames = Literal["ends", "all"]


@dataclass(frozen=True)
class VideoRow:
    """A readable video.

    Attributes:
        path: relative to the scanned folder, with forward slashes.
        metadata: frames, rate, duration, size.
        label: name of the folder the video lies in, None for the scanned folder itself.
    """

    path: str
    metadata: VideoMetadata
    label: str | None


@dataclass(frozen=True)
class SkippedVideo:
    """A video that cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All videos of a folder, in the order of their paths."""

    folder: Path
    rows: tuple[VideoRow, ...]
    skipped: tuple[SkippedVideo, ...]


def scan_folder(
    folder: str | Path, *, decoder: DecoderName = "decord", verify_frames: VerifyFrames = "ends"
) -> Manifest:
    """Reads every video below a folder.

    Args:
        folder: searched with its sub-folders; hidden files are left alone.
        decoder: which decoder to trust.
        verify_frames: decode the first and the last frame ("ends"), or all of them.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video file.
    """
    rows, skipped = [], []
    for path in find_videos(folder):
        row = read_row(Path(folder), path, decoder=decoder, verify_frames=verify_frames)
        (rows if isinstance(row, VideoRow) else skipped).append(row)
    return Manifest(Path(folder), tuple(rows), tuple(skipped))


def read_row(
    folder: str | Path,
    path: str,
    data: bytes | None = None,
    *,
    decoder: DecoderName,
    verify_frames: VerifyFrames,
) -> VideoRow | SkippedVideo:
    """Reads one video: its row, or why it cannot be read.

    Args:
        folder: that the path is relative to, or a URL.
        path: of the video.
        data: its bytes, if they are at hand.
        decoder: which decoder to trust.
        verify_frames: decode the first and the last frame ("ends"), or all of them.
    """
    try:
        data = read_source(str(folder), path) if data is None else data
        metadata = probe(data, path, decoder=decoder, verify_frames=verify_frames)
    except DecodeError as error:
        return SkippedVideo(path, error.reason)
    except OSError as error:
        return SkippedVideo(path, error.strerror or str(error))
    return VideoRow(path, metadata, Path(path).parent.name or None)


def probe(
    data: bytes, name: str, *, decoder: DecoderName, verify_frames: VerifyFrames
) -> VideoMetadata:
    """Returns the metadata of a video whose first and last frames (or all) were decoded.

    Raises:
        DecodeError: if it cannot be opened or a frame is missing.
    """
    with decoder_class(decoder)(data, name) as video:
        metadata = video.metadata()
        if verify_frames == "ends":
            video.frames_at([0, metadata.num_frames - 1])
        else:
            for start in range(0, metadata.num_frames, 64):
                video.frames_at(range(start, min(start + 64, metadata.num_frames)))
    return metadata
