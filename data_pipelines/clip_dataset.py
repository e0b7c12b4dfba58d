"""Clips of videos out of shards: which frames, decoded once, cut and transformed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.batch import ClipBatch, SkippedSample
from data_pipelines.clip_sampling import (
    ShortVideoPolicy,
    clip_indices_at,
    explain_misfit,
    sample_clip_indices,
)
from data_pipelines.decoders.base import DecoderName
from data_pipelines.samples import Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import NoUsableSampleError, nothing_usable
from data_pipelines.streams import ShardDataset
from data_pipelines.transforms import ClipTransform

ClipPlace = Literal["random", "middle"]


class ClipSample(NamedTuple):
    """All clips taken from one video.

    Attributes:
        video: (clips, 3, time, height, width), uint8.
        timestamps_seconds: (clips, time), float32.
        key: of the video.
        skipped: samples that failed before this one.
    """

    video: Tensor
    timestamps_seconds: Tensor
    key: str
    skipped: tuple[SkippedSample, ...]

    @staticmethod
    def join(samples: Sequence[ClipSample]) -> ClipBatch:
        """Returns a batch of the clips of several videos: (batch, 3, time, height, width)."""
        return ClipBatch(
            video=torch.cat([sample.video for sample in samples]),
            timestamps_seconds=torch.cat([sample.timestamps_seconds for sample in samples]),
            keys=tuple(sample.key for sample in samples for _ in sample.video),
            skipped=tuple(skip for sample in samples for skip in sample.skipped),
        )


class ClipDataset(ShardDataset[ClipSample]):
    """Clips of videos.

    All clips of one video come from one decoding of the frames they need, which shares the cost of
    opening it ("repeated sampling", MAE-ST, arXiv:2205.09113, Sec. 3).

    Args:
        index: the shards.
        clip_length_frames: frames per clip.
        transform: frames to the model's size.
        frames_per_second: of the clip; None takes consecutive frames.
        clips_per_video: how many clips each visit to a video gives.
        short_video: "skip" replaces a video that is too short, "repeat_last" repeats its end.
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in a child process, whose crash or hang costs one sample.
        place: "random" starts, or "middle" of the video (for validation).
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        clip_length_frames: int,
        transform: ClipTransform,
        frames_per_second: float | None = None,
        clips_per_video: int = 1,
        short_video: ShortVideoPolicy = "skip",
        decoder: DecoderName = "decord",
        isolate_decoding: bool = False,
        place: ClipPlace = "random",
    ) -> None:
        super().__init__(index, decoder=decoder, isolate_decoding=isolate_decoding)
        self.clip_length_frames = clip_length_frames
        self.transform = transform
        self.frames_per_second = frames_per_second
        self.clips_per_video = clips_per_video
        self.short_video: ShortVideoPolicy = short_video
        self.place = place

    def read(
        self, sample: Sample, generator: torch.Generator, skipped: tuple[SkippedSample, ...]
    ) -> ClipSample:
        """Decodes the union of the clips' frames once, then cuts and transforms each clip."""
        with self._open(sample) as video:
            timestamps_seconds = video.timestamps_seconds()
            clips = self._clip_indices(timestamps_seconds, generator)  # (clips, time)
            union, places = np.unique(clips, return_inverse=True)
            pixels = torch.from_numpy(video.frames_at(union).pixels)
        places = torch.from_numpy(places.reshape(clips.shape))  # (clips, time), into pixels
        return ClipSample(
            video=torch.stack([self.transform(pixels[place], generator) for place in places]),
            timestamps_seconds=torch.from_numpy(timestamps_seconds[clips]).float(),
            key=sample.key,
            skipped=skipped,
        )

    def _clip_indices(
        self, timestamps_seconds: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        if self.place == "middle":
            clip = clip_indices_at(
                timestamps_seconds,
                self.clip_length_frames,
                fraction=0.5,
                frames_per_second=self.frames_per_second,
                short_video=self.short_video,
            )
            return np.stack([clip] * self.clips_per_video)
        return np.stack(
            [
                sample_clip_indices(
                    timestamps_seconds,
                    self.clip_length_frames,
                    generator=generator,
                    frames_per_second=self.frames_per_second,
                    short_video=self.short_video,
                )
                for _ in range(self.clips_per_video)
            ]
        )


def refuse_set_without_fitting_video(
    index: ShardIndex, clip_length_frames: int, *, frames_per_second: float | None = None
) -> None:
    """Raises at once if the index says that no video is long enough for one clip.

    Raises:
        NoUsableSampleError: naming the first video and by how much it is too short.
    """
    first: SkippedSample | None = None
    for sample in index.samples:
        if sample.metadata is None:
            return  # its length is not known before it is decoded
        misfit = explain_misfit(
            sample.metadata.num_frames,
            sample.metadata.duration_seconds,
            clip_length_frames,
            frames_per_second=frames_per_second,
        )
        if misfit is None:
            return
        first = first or SkippedSample(sample.key, misfit)
    if first is not None:
        raise NoUsableSampleError(nothing_usable(index.num_samples, index.num_samples, first))
