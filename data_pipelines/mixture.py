"""Several datasets in one run: a weighted mixture, and images beside videos."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any

from torch.utils.data import Dataset

from data_pipelines.datamodules import ImageDataModule, ShardDataModule
from data_pipelines.mixture_plan import AlternatingBatchSampler, MixturePlan
from data_pipelines.plan import EpochPlan, ResumableBatchSampler, Slot, steps_in_one_pass
from data_pipelines.resumable_datamodule import ResumableDataModule
from data_pipelines.streams import CountingLoader, NothingUsable, ShardDataset

logger = logging.getLogger(__name__)


class JoinedDataset(Dataset):
    """Datasets one after the other; keys say from which one a sample comes.

    Args:
        datasets: whose samples can share a batch, or are never put into one.
        names: of each, put before its keys: "name:key".
    """

    def __init__(self, datasets: Sequence[ShardDataset], names: Sequence[str]) -> None:
        self.datasets = tuple(datasets)
        self.names = tuple(names)
        self.ends = [len(datasets[0])]  # of each dataset, in the joined numbers
        for dataset in datasets[1:]:
            self.ends.append(self.ends[-1] + len(dataset))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, slot: Slot) -> Any:  # noqa: ANN401 - a sample of any of the datasets
        number = bisect.bisect_right(self.ends, slot.sample_index)
        first = self.ends[number - 1] if number else 0
        own = slot._replace(sample_index=slot.sample_index - first)
        sample, name = self.datasets[number][own], self.names[number]
        if isinstance(sample, NothingUsable):
            return NothingUsable(f"{name}: {sample.message}")
        skipped = tuple(skip._replace(key=f"{name}:{skip.key}") for skip in sample.skipped)
        key = f"{name}:{sample.key}" if sample.key else ""  # padding has no key
        return sample._replace(key=key, skipped=skipped)


class MixtureDataModule(ResumableDataModule):
    """A weighted mixture of datasets, and images beside videos.

    Of a source its shards, sampling, crops, decoder and validation shards count; batch size,
    workers, steps, seed of the order and the budget for skips are those of the mixture. Samples of
    all sources share batches, so their clips must have one shape. Images do not: every so many
    steps all ranks take a batch of images, as clips of one frame (V-JEPA 2.1 trains on both; it
    gives them to different ranks).

    Args:
        sources: data modules of clips, or of trajectories with one specification.
        weights: how often each is visited, as parts of one another; None: by their sizes.
        batch_size: clips per process and step.
        images: a data module of images, or None.
        image_fraction: steps that take a batch of images instead, in [0, 1).
        image_batch_size: images per process and step; None: batch_size.
        num_workers: reading processes; 0 reads in the main process.
        steps_per_epoch: None: as many as one pass over all sources fills.
        max_skipped_fraction: the run stops when more samples than this part are skipped.
        val_batches: at most so many batches of one validation per process; None: one pass.
        seed: of the order of the sources.
        prefetch_factor: batches that each worker prepares ahead.
    """

    def __init__(
        self,
        sources: list[ShardDataModule],
        weights: list[float] | None = None,
        *,
        batch_size: int = 8,
        images: ImageDataModule | None = None,
        image_fraction: float = 0.0,
        image_batch_size: int | None = None,
        num_workers: int = 0,
        steps_per_epoch: int | None = None,
        max_skipped_fraction: float = 0.1,
        val_batches: int | None = None,
        seed: int = 0,
        prefetch_factor: int = 2,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            max_skipped_fraction=max_skipped_fraction,
            seed=seed,
        )
        self.sources = sources
        self.weights = weights
        self.images = images
        self.image_fraction = image_fraction
        self.image_batch_size = image_batch_size or batch_size
        self.steps_per_epoch = steps_per_epoch
        self.val_batches = val_batches
        self.clips_per_sample = _clips_per_sample(sources, batch_size)
        if any(getattr(source, "augment_on", "worker") == "device" for source in sources):
            raise ValueError(
                "a source of a mixture cannot augment on the device: set its augment_on to 'worker'"
            )
        if (images is None) != (image_fraction == 0) or not 0 <= image_fraction < 1:
            raise ValueError(
                f"images={'none' if images is None else 'given'} and "
                f"image_fraction={image_fraction}: give both, the fraction above 0 and below 1"
            )

    @cached_property
    def names(self) -> list[str]:
        """Returns a name for each source, images last: the last part of its shards' place."""
        modules = [*self.sources, *([self.images] if self.images else [])]
        names = [_name_of(module.shards) for module in modules]
        if len(set(names)) < len(names):
            names = [f"{number}-{name}" for number, name in enumerate(names)]
        return names

    @property
    def specification(self) -> Any:  # noqa: ANN401 - of trajectories
        """Returns the specification that all sources of trajectories share."""
        return self._shared("specification")

    @property
    def statistics(self) -> Any:  # noqa: ANN401 - of trajectories
        """Returns the statistics of the first source: one normaliser for all of them."""
        return self.sources[0].statistics  # pyright: ignore[reportAttributeAccessIssue]

    def setup(self, stage: str | None = None) -> None:
        """Reads all indices, so that faults show before the first step."""
        logger.info("%s", self.describe())
        for source in self.sources:
            _ = source.val_index

    def train_dataloader(self) -> CountingLoader:
        """Returns the loader of this rank, which starts at the trainer's step."""
        self._refuse_second_sampler()
        datasets = [source.training_dataset(source.index) for source in self.sources]
        if self.images is not None:
            datasets.append(self.images.training_dataset(self.images.index))
        return self._loader(JoinedDataset(datasets, self.names), self._sampler(), self._fingerprint)

    def val_dataloader(self) -> CountingLoader | list[Any]:
        """Returns one pass over the validation shards of all sources, one after the other."""
        chosen = [
            (name, source.validation_dataset(source.val_index))
            for name, source in zip(self.names, self.sources, strict=False)
            if source.val_index is not None
        ]
        if not chosen:
            return []
        self._refuse_second_sampler()
        datasets = [dataset for _, dataset in chosen]
        return self._evaluation_loader(
            JoinedDataset(datasets, [name for name, _ in chosen]),
            clips_per_sample=datasets[0].clips_per_sample,
            max_steps=self.val_batches,
        )

    def test_dataloader(self) -> CountingLoader | list[Any]:
        """Returns the validation loader."""
        return self.val_dataloader()

    def describe(self) -> str:
        """Returns one line for the start of a run."""
        plan = self._plan
        parts = [
            f"{name} {count} of {plan.period} ({source.index.num_samples} samples)"
            for name, count, source in zip(
                self.names, plan.slots_per_period, self.sources, strict=False
            )
        ]
        if self.images is not None:
            parts.append(
                f"{self.names[-1]} {self.image_fraction:g} of the steps "
                f"({self.images.index.num_samples} images)"
            )
        ranks = self._world_size
        return (
            f"mixture of {', '.join(parts)}; {self.train_steps_per_epoch} steps per epoch, global "
            f"batch {self.batch_size * ranks} ({self.batch_size} x {ranks} ranks)"
        )

    @property
    def train_steps_per_epoch(self) -> int:
        """Returns how many batches each rank takes per epoch."""
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        return steps_in_one_pass(
            sum(source.index.num_samples for source in self.sources),
            self.clips_per_sample,
            batch_size=self.batch_size,
            world_size=self._world_size,
        )

    @cached_property
    def _plan(self) -> MixturePlan:
        sizes = [source.index.num_samples for source in self.sources]
        return MixturePlan(
            [EpochPlan(s.index.samples_per_shard, seed=s.seed) for s in self.sources],
            self.weights or sizes,
            seed=self.seed,
        )

    def _sampler(self) -> AlternatingBatchSampler | ResumableBatchSampler:
        slots = self.batch_size // self.clips_per_sample
        if self.images is None:
            return ResumableBatchSampler(
                self._plan,
                slots_per_batch=slots,
                steps_per_epoch=self.train_steps_per_epoch,
                rank=self._rank,
                world_size=self._world_size,
                first_step=self._batches_trained,
            )
        images = EpochPlan(self.images.index.samples_per_shard, seed=self.images.seed)
        return AlternatingBatchSampler(
            (self._plan, MixturePlan([images], [1], seed=self.seed)),
            slots_per_batch=(slots, self.image_batch_size),
            num_first_samples=sum(source.index.num_samples for source in self.sources),
            fraction=self.image_fraction,
            steps_per_epoch=self.train_steps_per_epoch,
            rank=self._rank,
            world_size=self._world_size,
            first_step=self._batches_trained,
        )

    @property
    def _fingerprint(self) -> str:
        modules = [*self.sources, *([self.images] if self.images else [])]
        sets = "+".join(f"{m.index.fingerprint}-{m.sampling_fingerprint}" for m in modules)
        shares = ":".join(str(count) for count in self._plan.slots_per_period)
        batch = self.batch_size * self._world_size
        return f"{sets}-{shares}-{self.image_fraction:g}-{self.seed}-{batch}"

    def _shared(self, name: str) -> Any:  # noqa: ANN401
        values = [getattr(source, name) for source in self.sources]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"the sources {', '.join(self.names[: len(values)])} differ in their {name}: one "
                "model cannot train on all of them"
            )
        return values[0]


def _clips_per_sample(sources: Sequence[ShardDataModule], batch_size: int) -> int:
    """Returns the clips that each sample of each source gives.

    Raises:
        ValueError: if there is no source, if sources differ, or if no whole number of samples fits
            a batch.
    """
    numbers = sorted({source.clips_per_sample for source in sources})
    if len(numbers) != 1:
        came = "no source" if not sources else f"sources with {numbers} clips per sample"
        raise ValueError(f"a mixture needs sources with one number of clips per sample, got {came}")
    if batch_size < 1 or batch_size % numbers[0]:
        raise ValueError(
            f"batch_size={batch_size} must be a multiple of the {numbers[0]} clips taken from each "
            "sample"
        )
    return numbers[0]


def _name_of(shards: str | list[str]) -> str:
    first = shards if isinstance(shards, str) else shards[0]
    return PurePath(first).name or "set"
