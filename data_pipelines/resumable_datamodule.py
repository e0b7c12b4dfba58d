"""What all data modules share: loaders that know their rank and their step, and the skip count.

The trainer must be made with `use_distributed_sampler=False`: the plan already gives every rank its
own part of each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, IterableDataset

from data_pipelines.plan import EvaluationBatchSampler, SteppedBatchSampler
from data_pipelines.rank_agreement import refuse_different_plans
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader


class ResumableDataModule(L.LightningDataModule):
    """Loaders that go on from the trainer's step.

    Args:
        batch_size: rows per process and step.
        num_workers: reading processes; 0 reads in the main process.
        prefetch_factor: batches that each worker prepares ahead.
        max_skipped_fraction: the run stops when more samples than this part are skipped.
        seed: of the order and of all random cuts.
        allow_data_change: resume, with a warning, from a checkpoint of other data or another order
            of them, where it is refused else.

    Attributes:
        skips: skipped samples of this process, over all resumes.
    """

    def __init__(
        self,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        max_skipped_fraction: float = 0.1,
        seed: int = 0,
        allow_data_change: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.seed = seed
        self.allow_data_change = allow_data_change
        self.skips = SkipCounter(max_skipped_fraction)

    def state_dict(self) -> dict[str, Any]:
        """Returns what each rank has skipped so far; all ranks must call it, as Lightning does."""
        own = self.skips.state_dict()
        if self._world_size == 1 or not dist.is_initialized():
            return {"skips": [own]}
        every: list[Any] = [None] * self._world_size
        dist.all_gather_object(every, own)
        return {"skips": every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting; what ranks counted that are gone now is added to the first."""
        for rank, counted in enumerate(state_dict.get("skips", [])):
            if (rank if rank < self._world_size else 0) == self._rank:
                self.skips.add_state(counted)

    def _count_left_out(self, indices: Sequence[ShardIndex]) -> None:
        """Counts what indices have left out; raises if it is more than may be skipped."""
        for index in indices:
            damaged = {video.path: video.reason for video in index.damaged}
            self.skips.leave_out(damaged, num_usable=index.num_samples)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _batches_trained(self) -> int:
        """Returns how many training batches this run has used, over all its epochs and resumes.

        Lightning restores its progress before it asks for the loader. Batches are counted, not
        optimizer steps, so gradients may be accumulated; and of the counts, `processed` is the one
        that is right wherever in a step the checkpoint was made.
        """
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return progress.total.processed

    def _refuse_second_sampler(self) -> None:
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if self._world_size > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ValueError(
                "make the trainer with use_distributed_sampler=False: the data plan already gives "
                "each rank its own samples"
            )

    def _evaluation_loader(
        self,
        dataset: Dataset,
        *,
        clips_per_sample: int,
        max_steps: int | None,
        fingerprint: str = "",
    ) -> CountingLoader:
        """Returns one pass over a dataset, each sample once, in its order.

        No batch has more rows than `batch_size`, however many views a sample has.
        """
        sampler = EvaluationBatchSampler(
            len(dataset),  # pyright: ignore[reportArgumentType] - ours have a length
            batch_size=self.batch_size,
            clips_per_sample=clips_per_sample,
            seed=self.seed,
            rank=self._rank,
            world_size=self._world_size,
            max_steps=max_steps,
        )
        return self._loader(dataset, sampler, fingerprint)

    def _loader(
        self,
        dataset: Dataset,
        sampler: SteppedBatchSampler | EvaluationBatchSampler,
        fingerprint: str,
    ) -> CountingLoader:
        """Returns a loader; raises on all ranks alike if they would read different data."""
        if self._world_size > 1:
            refuse_different_plans(sampler, fingerprint)
        return CountingLoader(
            dataset,
            sampler,
            skips=self.skips,
            data_fingerprint=fingerprint,
            allow_data_change=self.allow_data_change,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=torch.cuda.is_available(),
        )


def as_stream(loader: CountingLoader) -> DataLoader:
    """Returns a loader's batches as a stream: Lightning leaves its sampler alone when it predicts.

    Lightning would put a sampler of its own in place of ours.
    """
    return DataLoader(_Batches(loader), batch_size=None, collate_fn=_unchanged)


def _unchanged(batch: Any) -> Any:  # noqa: ANN401 - the default would make lists of tuples
    return batch


class _Batches(IterableDataset):
    def __init__(self, loader: CountingLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)
