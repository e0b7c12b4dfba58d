"""Labelled videos and images: one class each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.images import decode_image
from data_pipelines.labelled_clips.labelled_set import LabelledClips
from data_pipelines.samples import Sample, Shard
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader


class VideoClips(LabelledClips):
    """Videos of shards or of plain files, with a class each."""

    @cached_property
    def _dataset(self) -> ClipDataset:
        settings = self.settings
        return ClipDataset(
            index_of(self.samples),
            clip_length_frames=settings.clip_length_frames,
            transform=settings.transforms(),
            frames_per_second=settings.frames_per_second,
            frame_stride=settings.frame_stride,
            clips_per_video=settings.num_clips,
            short_video=settings.short_video,
            decoder=settings.decoder,
            place="jittered" if settings.random_views else "uniform",
            replace_unusable=False,
        )

    def _read(self, number: int, generator: torch.Generator) -> Tensor:
        return self._dataset.read(self.samples[number], generator, ()).video


class ImageClips(LabelledClips):
    """Images of shards or of plain files, with a class each: still videos of the clip's length."""

    @cached_property
    def _reader(self) -> ShardReader:
        return ShardReader()

    def _read(self, number: int, generator: torch.Generator) -> Tensor:
        sample = self.samples[number]
        data = self._reader.read(sample, sample.image_extension)
        pixels = torch.from_numpy(decode_image(data, sample.key))[None]  # (1, height, width, 3)
        views = torch.stack(
            [transform(pixels, generator) for transform in self.settings.transforms()]
        )  # (views, 3, 1, height, width)
        return views.expand(-1, -1, self.settings.clip_length_frames, -1, -1)


def index_of(samples: Sequence[Sample]) -> ShardIndex:
    """Returns an index that holds these samples and nothing else."""
    return ShardIndex((Shard("labelled samples", 0, samples),))
