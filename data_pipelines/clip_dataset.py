"""Clips of videos out of shards: which frames, decoded once, cut and transformed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.augmentation import ClipAugmentation
from data_pipelines.batch import ClipBatch, SkippedSample, View
from data_pipelines.clip_sampling import (
    ClipPlacement,
    ClipSampler,
    ClipSampling,
    ShortVideoPolicy,
)
from data_pipelines.decoders.base import DecoderName
from data_pipelines.official_clip_sampling import OfficialClipSampling
from data_pipelines.samples import Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.skips import NoUsableSampleError, nothing_usable
from data_pipelines.streams import ALL_CLIPS, ShardDataset
from data_pipelines.transforms import ClipTransform

ClipPlace = Literal["random", "middle"]  # of a trajectory's windows


class ClipSample(NamedTuple):
    """All clips taken from one video.

    Attributes:
        video: (clips, 3, time, height, width), uint8.
        timestamps_seconds: (clips, time), float32.
        key: of the video.
        skipped: samples that failed before this one.
        is_valid: False for padding and for what could not be read.
        views: one per clip; none for a sample that is no video.
        seeds: one per clip, see `ClipBatch`.
    """

    video: Tensor
    timestamps_seconds: Tensor
    key: str
    skipped: tuple[SkippedSample, ...]
    is_valid: bool = True
    views: tuple[View, ...] = ()
    seeds: tuple[int, ...] = ()

    @staticmethod
    def join(samples: Sequence[ClipSample]) -> ClipBatch:
        """Returns a batch of the clips of several videos: (batch, 3, time, height, width)."""
        return ClipBatch(
            video=torch.cat([sample.video for sample in samples]),
            timestamps_seconds=torch.cat([sample.timestamps_seconds for sample in samples]),
            keys=tuple(sample.key for sample in samples for _ in sample.video),
            skipped=tuple(skip for sample in samples for skip in sample.skipped),
            is_valid=torch.tensor([sample.is_valid for sample in samples for _ in sample.video]),
            views=tuple(view for sample in samples for view in sample.views),
            seeds=tuple(seed for sample in samples for seed in sample.seeds),
        )


class ClipDataset(ShardDataset[ClipSample]):
    """Clips of videos.

    All clips of one video come from one decoding of the frames they need, which shares the cost of
    opening it ("repeated sampling", MAE-ST, arXiv:2205.09113, Sec. 3).

    Args:
        index: the shards.
        clip_length_frames: frames per clip.
        transform: frames to the model's size; with several, each gives its own view of each clip:
            views of one clip are neighbours, clips keep their order.
        frames_per_second: of the clip, by time stamps; None counts frames instead.
        frame_stride: every so many frames one is taken; above 1 only without frames_per_second.
        clips_per_video: how many clips each visit to a video gives.
        short_video: see `ClipSampling`; "official" only with an official place.
        decoder: a name from `decoder_names`.
        isolate_decoding: see `ShardDataset`.
        reader: see `ShardDataset`.
        replace_unusable: see `ShardDataset`.
        place: see `ClipSampling`; "official" and "official_overlapping" take the frames that the
            official loader takes, see `OfficialClipSampling`.
        augmentation: of each clip after its transform, here in the reading process.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        clip_length_frames: int,
        transform: ClipTransform | Sequence[ClipTransform],
        frames_per_second: float | None = None,
        frame_stride: int = 1,
        clips_per_video: int = 1,
        short_video: ShortVideoPolicy = "skip",
        decoder: DecoderName = "decord",
        isolate_decoding: bool | None = None,
        reader: ShardReader | None = None,
        replace_unusable: bool = True,
        place: ClipPlacement = "random",
        augmentation: ClipAugmentation | None = None,
    ) -> None:
        super().__init__(
            index,
            decoder=decoder,
            isolate_decoding=isolate_decoding,
            reader=reader,
            replace_unusable=replace_unusable,
        )
        self.sampling = clip_sampler(
            clip_length_frames,
            frames_per_second=frames_per_second,
            frame_stride=frame_stride,
            clips_per_video=clips_per_video,
            placement=place,
            short_video=short_video,
        )
        self.transforms = tuple(transform) if isinstance(transform, Sequence) else (transform,)
        self.augmentation = augmentation
        self.views = tuple(
            View(clip, view)
            for clip in range(clips_per_video)
            for view in range(len(self.transforms))
        )
        self.clips_per_sample = len(self.views)

    def read(
        self,
        sample: Sample,
        generator: torch.Generator,
        skipped: tuple[SkippedSample, ...],
        chosen: slice = ALL_CLIPS,
    ) -> ClipSample:
        """Decodes the union of the clips' frames once, then cuts and transforms each clip."""
        chosen_views = self.views[chosen]
        moments = sorted({view.temporal for view in chosen_views})
        with self._open(sample) as video:
            timestamps_seconds = video.timestamps_seconds()
            clips = self.sampling.indices(timestamps_seconds, generator=generator)  # (clips, time)
            union, places = np.unique(clips[moments], return_inverse=True)
            pixels = torch.from_numpy(video.frames_at(union).pixels)
        frames = dict(zip(moments, places.reshape(len(moments), -1), strict=True))
        frames = {moment: _taken(pixels, place) for moment, place in frames.items()}
        views = [self.transforms[crop](frames[moment], generator) for moment, crop in chosen_views]
        seeds = draw_seeds(len(views), generator)
        if self.augmentation is not None:
            views = [self.augmentation(*view) for view in zip(views, seeds, strict=True)]
        seconds = timestamps_seconds[clips[[view.temporal for view in chosen_views]]]
        return ClipSample(
            video=torch.stack(views),
            timestamps_seconds=torch.from_numpy(seconds).float(),
            key=sample.key,
            skipped=skipped,
            views=chosen_views,
            seeds=seeds,
        )

    def blank(
        self, key: str, skipped: tuple[SkippedSample, ...], chosen: slice = ALL_CLIPS
    ) -> ClipSample:
        """Returns black clips that are not valid."""
        views = self.views[chosen]
        clips, time = len(views), self.sampling.clip_length_frames
        size = self.transforms[0].image_size
        return ClipSample(
            video=torch.zeros(clips, 3, time, size, size, dtype=torch.uint8),
            timestamps_seconds=torch.zeros(clips, time),
            key=key,
            skipped=skipped,
            is_valid=False,
            views=views,
            seeds=(0,) * clips,
        )


def clip_sampler(
    clip_length_frames: int,
    *,
    frames_per_second: float | None = None,
    frame_stride: int = 1,
    clips_per_video: int = 1,
    placement: ClipPlacement = "random",
    short_video: ShortVideoPolicy = "skip",
) -> ClipSampler:
    """Returns `OfficialClipSampling` for the official placements, else `ClipSampling`."""
    if not placement.startswith("official"):
        return ClipSampling(
            clip_length_frames,
            frames_per_second=frames_per_second,
            frame_stride=frame_stride,
            clips_per_video=clips_per_video,
            placement=placement,
            short_video=short_video,
        )
    return OfficialClipSampling(
        clip_length_frames,
        frames_per_second=frames_per_second,
        frame_stride=frame_stride,
        clips_per_video=clips_per_video,
        allow_clip_overlap=placement == "official_overlapping",
        short_video=short_video,
    )


def draw_seeds(count: int, generator: torch.Generator) -> tuple[int, ...]:
    """Returns seeds of what is drawn for each clip outside the dataset's own generator."""
    return tuple(torch.randint(2**63 - 1, (count,), generator=generator).tolist())


def _taken(pixels: Tensor, place: np.ndarray) -> Tensor:
    """Returns a clip's frames (time, height, width, 3): a view without a copy if neighbours."""
    first, count = int(place[0]), len(place)
    if np.array_equal(place, np.arange(first, first + count)):
        return pixels[first : first + count]
    return pixels[torch.from_numpy(place)]


def refuse_set_without_fitting_video(
    index: ShardIndex, clip_length_frames: int, *, frames_per_second: float | None = None
) -> None:
    """Raises at once if the index says that no video is long enough for one clip.

    Args:
        index: the shards.
        clip_length_frames: of one clip.
        frames_per_second: of the clip; None takes consecutive frames.

    Raises:
        NoUsableSampleError: naming the first video and by how much it is too short.
    """
    refuse_set_without_usable_video(
        index, ClipSampling(clip_length_frames, frames_per_second=frames_per_second)
    )


def refuse_set_without_usable_video(index: ShardIndex, sampling: ClipSampler) -> None:
    """Raises at once if the index says that no video gives the clips asked for.

    Raises:
        NoUsableSampleError: naming the first video and by how much it is too short.
    """
    first: SkippedSample | None = None
    for sample in index.samples:
        if sample.metadata is None:
            return  # its length is not known before it is decoded
        metadata = sample.metadata
        misfit = sampling.explain_misfit(metadata.num_frames, metadata.duration_seconds)
        if misfit is None:
            return
        first = first or SkippedSample(sample.key, misfit)
    if first is not None:
        raise NoUsableSampleError(nothing_usable(index.num_samples, index.num_samples, first))
