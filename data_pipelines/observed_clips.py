"""The videos of annotated actions: which file is which, and the clips that are seen before them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from data_pipelines.anticipation_timing import ObservedClip, SkippedSegment
from data_pipelines.clip_sampling import frames_on_screen
from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.manifest import SkippedVideo, find_videos, read_row
from data_pipelines.transforms import ClipTransform
from data_pipelines.video_sources import read_source


@dataclass(frozen=True)
class NamedVideos:
    """The videos that a table of actions names.

    Attributes:
        folder: that paths are relative to.
        paths: video_id -> path, of those that can be read.
        durations_seconds: video_id -> how long the video is.
        unreadable: video_id -> why it cannot be read.
    """

    folder: Path
    paths: Mapping[str, str]
    durations_seconds: Mapping[str, float]
    unreadable: Mapping[str, str]


class SeenClip(NamedTuple):
    """A clip with its pixels.

    Attributes:
        clip: what was planned.
        video: (3, time, image_size, image_size), uint8, RGB.
    """

    clip: ObservedClip
    video: Tensor


def find_named_videos(
    folder: str | Path, names: Iterable[str], *, decoder: DecoderName = "decord"
) -> NamedVideos:
    """Finds videos by their file names and looks at them.

    Args:
        folder: searched with its sub-folders; a video_id is a file's name without its extension.
        names: the video_ids wanted; other files are not opened. Those that no file has are left
            out of the answer.
        decoder: which decoder to trust.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video, none that is wanted, or two files of one wanted name.
    """
    wanted, paths = set(names), {}
    for path in find_videos(folder):
        name = PurePosixPath(path).stem
        if name in wanted and name in paths:
            raise ValueError(f"{folder} has two videos {name}: {paths[name]} and {path}")
        if name in wanted:
            paths[name] = path
    if not paths:
        raise ValueError(
            f"{folder} has none of the {len(wanted)} annotated videos, as {min(wanted)}"
        )
    durations, unreadable = {}, {}
    for name, path in paths.items():
        row = read_row(folder, path, decoder=decoder, verify_frames="ends")
        if isinstance(row, SkippedVideo):
            unreadable[name] = f"the video cannot be read: {row.reason}"
        else:
            durations[name] = row.metadata.duration_seconds
    readable = {name: path for name, path in paths.items() if name in durations}
    return NamedVideos(Path(folder), readable, durations, unreadable)


class ObservedClips:
    """Reads planned clips, each video opened once.

    Args:
        videos: where the videos are.
        clips: what to read; those of one video should be neighbours.
        transform: to the size of the encoder, the same for every clip.
        decoder: which decoder to trust.

    Attributes:
        skipped: what could not be decoded, complete when the iteration is.
    """

    def __init__(
        self,
        videos: NamedVideos,
        clips: Sequence[ObservedClip],
        transform: ClipTransform,
        *,
        decoder: DecoderName = "decord",
    ) -> None:
        self.videos, self.clips, self.transform, self.decoder = videos, clips, transform, decoder
        self.skipped: list[SkippedSegment] = []

    def __iter__(self) -> Iterator[SeenClip]:
        self.skipped.clear()
        for name, group in itertools.groupby(self.clips, lambda clip: clip.segment.video_id):
            yield from self._of_video(name, list(group))

    def _of_video(self, name: str, clips: list[ObservedClip]) -> Iterator[SeenClip]:
        path, generator = self.videos.paths[name], torch.Generator()
        try:
            data = read_source(str(self.videos.folder), path)
            with decoder_class(self.decoder)(data, path) as video:
                starts_seconds = video.timestamps_seconds()
                while clips:
                    indices = frames_on_screen(starts_seconds, clips[0].moments_seconds)
                    pixels = torch.from_numpy(video.frames_at(indices).pixels)
                    yield SeenClip(clips.pop(0), self.transform(pixels, generator))
        except (DecodeError, OSError) as error:
            self.skipped += [SkippedSegment(clip.segment.name, str(error)) for clip in clips]
