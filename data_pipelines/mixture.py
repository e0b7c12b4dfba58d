"""Several datasets in one run: a weighted mixture, and images beside videos."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from torch.utils.data import Dataset

from data_pipelines.action_windows import ActionWindows
from data_pipelines.datamodules import ImageDataModule, ShardDataModule, TrajectoryDataModule
from data_pipelines.mixture_plan import AlternatingBatchSampler, MixturePlan, weights_by_size
from data_pipelines.plan import EpochPlan, ResumableBatchSampler, Slot, steps_in_one_pass
from data_pipelines.pooled_statistics import pooled_statistics
from data_pipelines.resumable_datamodule import ResumableDataModule
from data_pipelines.streams import CountingLoader, NothingUsable, ShardDataset
from data_pipelines.trajectories import (
    ColumnStatistics,
    TrajectorySpecification,
    differing_field,
)

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
        weights: how often each is visited, as parts of one another; None: by their sizes, but each
            at least once in 4096 samples.
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
        allow_data_change: resume, with a warning, from a checkpoint of other data.
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
        allow_data_change: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            max_skipped_fraction=max_skipped_fraction,
            seed=seed,
            allow_data_change=allow_data_change,
        )
        self.sources = sources
        self.weights = weights
        self.images = images
        self.image_fraction = image_fraction
        self.image_batch_size = image_batch_size or batch_size
        self.steps_per_epoch = steps_per_epoch
        self.val_batches = val_batches
        if not sources:
            raise ValueError("a mixture needs at least one source")
        if any(getattr(source, "augment_on", "worker") == "device" for source in sources):
            raise ValueError(
                "a source of a mixture cannot augment on the device: set its augment_on to 'worker'"
            )
        if len({isinstance(source, TrajectoryDataModule) for source in sources}) > 1:
            raise ValueError(
                "clips and trajectories cannot share batches: a mixture takes sources of one kind"
            )
        _refuse_different_shapes(sources, self.names)
        self.clips_per_sample = sources[0].clips_per_sample
        if batch_size < 1 or batch_size % self.clips_per_sample:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of the {self.clips_per_sample} clips "
                "taken from each sample"
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
    def action_windows(self) -> ActionWindows:
        """Returns how windows are cut out of the first source: in all of them they mean the same.

        Raises:
            AttributeError: if the sources are clips.
            ValueError: if windows mean different things in two sources.
        """
        first, *others = self._trajectory_sources
        for number, other in enumerate(others, start=1):
            if difference := _explain_windows(first, other, self.names[0], self.names[number]):
                raise ValueError(f"one model cannot train on all these sources: {difference}")
        return first.action_windows

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns names, units, bounds and rate that all sources of trajectories share.

        The bounds of pose differences are the extremes of all sources.
        """
        return self.action_windows.specification(self.statistics)

    @cached_property
    def statistics(self) -> ColumnStatistics:
        """Returns one normaliser for all sources of trajectories; see `pooled_statistics`.

        A source counts by its share of the mixture's batches, not by its number of rows: so the
        mean and the spread are those of what a model sees, as far as a source's own statistics are
        (they count every row of a source alike).
        """
        _ = self.action_windows  # refuses sources whose columns mean different things
        statistics = [source.statistics for source in self._trajectory_sources]
        return pooled_statistics(statistics, self._plan.slots_per_period)

    def setup(self, stage: str | None = None) -> None:
        """Reads all indices, so that faults show before the first step."""
        logger.info("%s", self.describe())
        self._tell_of_tiny_sources()
        if any(isinstance(source, TrajectoryDataModule) for source in self.sources):
            _ = self.specification
        modules = [*self.sources, *([self.images] if self.images else [])]
        indices = [index for module in modules for index in (module.index, module.val_index)]
        self._count_left_out([index for index in indices if index is not None])

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
            fingerprint="+".join(s.val_index.fingerprint for s in self.sources if s.val_index),
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
            sum(self._sizes),
            self.clips_per_sample,
            batch_size=self.batch_size,
            world_size=self._world_size,
        )

    @cached_property
    def _plan(self) -> MixturePlan:
        return MixturePlan(
            [EpochPlan(s.index.samples_per_shard, seed=s.seed) for s in self.sources],
            self.weights or weights_by_size(self._sizes),
            seed=self.seed,
        )

    @property
    def _sizes(self) -> list[int]:
        return [source.index.num_samples for source in self.sources]

    def _tell_of_tiny_sources(self) -> None:
        """Says which sources come more often than their sizes say, since they are so small."""
        if self.weights is not None:
            return
        weights = weights_by_size(self._sizes)
        for name, size, weight in zip(self.names, self._sizes, weights, strict=False):
            if weight > size:
                logger.warning(
                    "%s has %d of %d samples: it comes once in %d samples, more than by its size; "
                    "`weights` sets other parts",
                    name,
                    size,
                    sum(self._sizes),
                    self._plan.period,
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
            num_first_samples=sum(self._sizes),
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

    @property
    def _trajectory_sources(self) -> list[TrajectoryDataModule]:
        sources = [source for source in self.sources if isinstance(source, TrajectoryDataModule)]
        if not sources:
            raise AttributeError("a mixture of clips has no actions and no states")
        return sources


def _explain_windows(
    one: TrajectoryDataModule, other: TrajectoryDataModule, name: str, other_name: str
) -> str | None:
    """Returns the first thing in which the windows of two sources differ in meaning, or None.

    Bounds may differ where they only say what is in the data.
    """
    for what in ("mode", "reduction", "steps_per_action"):
        value, other_value = (getattr(each.action_windows, what) for each in (one, other))
        if value != other_value:
            return f"{what} of actions is {value!r} in {name}, {other_value!r} in {other_name}"
    is_of_data = one.action_windows.mode == "pose_difference"
    ignored = ("action_low", "action_high") if is_of_data else ()
    first, second = one.specification, other.specification
    what = differing_field(first, second, ignored=ignored)
    if what is None:
        return None
    value, other_value = getattr(first, what), getattr(second, what)
    return f"{what} is {value!r} in {name}, {other_value!r} in {other_name}"


def _refuse_different_shapes(sources: Sequence[ShardDataModule], names: Sequence[str]) -> None:
    """Raises ValueError if the rows of two sources, which share batches, have different shapes."""
    for what in ("clips_per_sample", "image_size", "clip_length_frames"):
        _refuse_different(what, dict(zip(names, sources, strict=False)))
    validated = {n: s for n, s in zip(names, sources, strict=False) if s.val_shards is not None}
    for what in ("temporal_views", "spatial_views"):
        _refuse_different(what, validated)


def _refuse_different(what: str, sources: Mapping[str, ShardDataModule]) -> None:
    values = {name: getattr(source, what, 1) for name, source in sources.items()}
    for first, name in pairwise(values):
        if values[first] != values[name]:
            raise ValueError(
                "sources of a mixture share batches, so their clips must have one shape: "
                f"{what}={values[first]} in {first}, {values[name]} in {name}"
            )


def _name_of(shards: str | list[str]) -> str:
    first = shards if isinstance(shards, str) else shards[0]
    return PurePath(first).name or "set"
