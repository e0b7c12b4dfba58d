"""A folder of videos becomes rows: what can be read, and what cannot and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata

VIDEO_EXTENSIONS = ("mp4", "mov", "mkv", "webm", "avi", "m4v")

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


def find_videos(folder: str | Path) -> list[str]:
    """Returns the paths of all video files below a folder, relative to it and sorted.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    paths = sorted(_walk(folder))
    if not paths:
        raise ValueError(f"no video in {folder}; looked for {', '.join(VIDEO_EXTENSIONS)}")
    return paths


def read_row(
    folder: Path, path: str, *, decoder: DecoderName, verify_frames: VerifyFrames
) -> VideoRow | SkippedVideo:
    """Reads one video: its row, or why it cannot be read."""
    try:
        data = (folder / path).read_bytes()
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


def _walk(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            extension = name.rpartition(".")[2].lower()
            if extension in VIDEO_EXTENSIONS and not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()
