"""Images out of shards, as clips of one frame: they train beside videos."""

from __future__ import annotations

import torch

from data_pipelines.batch import SkippedSample, View
from data_pipelines.clip_dataset import ClipSample, draw_seeds
from data_pipelines.images import decode_image
from data_pipelines.samples import Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.streams import ALL_CLIPS, ShardDataset
from data_pipelines.transforms import ClipTransform


class ImageDataset(ShardDataset[ClipSample]):
    """One crop of each image: (1, 3, 1, height, width).

    Args:
        index: the shards.
        transform: pixels to the model's size.
        reader: see `ShardDataset`.
        replace_unusable: see `ShardDataset`.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        transform: ClipTransform,
        reader: ShardReader | None = None,
        replace_unusable: bool = True,
    ) -> None:
        super().__init__(index, decoder="", reader=reader, replace_unusable=replace_unusable)
        self.transform = transform

    def read(
        self,
        sample: Sample,
        generator: torch.Generator,
        skipped: tuple[SkippedSample, ...],
        chosen: slice = ALL_CLIPS,
    ) -> ClipSample:
        """Decodes one image, upright and RGB, and cuts the model's size out of it."""
        data = self.reader.read(sample, sample.image_extension)
        pixels = torch.from_numpy(decode_image(data, sample.key))  # (height, width, 3)
        return ClipSample(
            video=self.transform(pixels[None], generator)[None],
            timestamps_seconds=torch.zeros(1, 1),
            key=sample.key,
            skipped=skipped,
            views=(View(0, 0),),
            seeds=draw_seeds(1, generator),
        )

    def blank(
        self, key: str, skipped: tuple[SkippedSample, ...], chosen: slice = ALL_CLIPS
    ) -> ClipSample:
        """Returns a black image that is not valid."""
        size = self.transform.image_size
        black = torch.zeros(1, 3, 1, size, size, dtype=torch.uint8)
        return ClipSample(
            black, torch.zeros(1, 1), key, skipped, is_valid=False, views=(View(0, 0),), seeds=(0,)
        )
