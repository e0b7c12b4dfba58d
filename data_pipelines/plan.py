"""Which sample comes when: the order of training as a pure function.

Batch k is a function of (index, seed, k, rank, number of ranks) and of nothing else. So a resumed
run needs only its step, and neither the number of ranks nor of workers changes the order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch.utils.data import Sampler

_MASK = (1 << 64) - 1


class Slot(NamedTuple):
    """One place in the plan.

    Attributes:
        sample_index: which sample of the index.
        seed: of everything random about this visit: clip starts, crops, replacements.
        is_padding: fills up the last batch of an evaluation; nothing is read for it.
        clips: the first of the sample's clips and the one after the last; None: all of them.
    """

    sample_index: int
    seed: int
    is_padding: bool = False
    clips: tuple[int, int] | None = None

    @property
    def chosen(self) -> slice:
        """Returns which of the sample's clips are taken."""
        return slice(*(self.clips or (None, None)))


class EpochPlan:
    """An endless row of slots: pass after pass over all samples, each pass newly shuffled.

    Shards are shuffled, and samples within windows of a few shards, so that reading stays near
    sequential.

    Args:
        samples_per_shard: of each shard, in the order of the index.
        seed: same seed, same order.
        shuffle: False keeps the order of the index (for validation).
        shuffle_window_shards: how many shards are mixed with one another.
    """

    def __init__(
        self,
        samples_per_shard: Sequence[int],
        *,
        seed: int = 0,
        shuffle: bool = True,
        shuffle_window_shards: int = 8,
    ) -> None:
        self.samples_per_shard = tuple(samples_per_shard)
        self.num_samples = sum(self.samples_per_shard)
        if self.num_samples == 0:
            raise ValueError("a plan needs at least one sample")
        self.seed = seed
        self.shuffle = shuffle
        self.shuffle_window_shards = shuffle_window_shards
        self._newest: tuple[int, list[int]] = (-1, [])

    def order_of_pass(self, pass_index: int) -> list[int]:
        """Returns the samples of one pass in their order: each exactly once."""
        if self._newest[0] != pass_index:
            order = self._shuffled(pass_index) if self.shuffle else list(range(self.num_samples))
            self._newest = (pass_index, order)
        return self._newest[1]

    def slots(self, first: int, count: int) -> list[Slot]:
        """Returns `count` slots of the endless row, from number `first` on."""
        slots = []
        for position in range(first, first + count):
            pass_index, place = divmod(position, self.num_samples)
            sample_index = self.order_of_pass(pass_index)[place]
            slots.append(Slot(sample_index, mixed_seed(self.seed, position)))
        return slots

    def _shuffled(self, pass_index: int) -> list[int]:
        generator = torch.Generator().manual_seed(mixed_seed(~self.seed, pass_index))
        counts = torch.tensor(self.samples_per_shard)
        firsts = counts.cumsum(0) - counts  # index of each shard's first sample
        order: list[int] = []
        for window in torch.randperm(len(counts), generator=generator).split(
            self.shuffle_window_shards
        ):
            samples = torch.cat([torch.arange(counts[s].item()) + firsts[s] for s in window])
            order += samples[torch.randperm(len(samples), generator=generator)].tolist()
        return order


class Plan(Protocol):
    """An endless row of slots; any part of it is known without the rest."""

    def slots(self, first: int, count: int) -> list[Slot]:
        """Returns `count` slots, from number `first` on."""
        ...


class SteppedBatchSampler(Sampler[list[Slot]], ABC):
    """Yields one rank's batches, from the current step on; `batch` says what each holds.

    Args:
        steps_per_epoch: length of an epoch; the plan runs on from epoch to epoch.
        rank: this process, in [0, world_size).
        world_size: number of processes.
        first_step: returns how many batches were used before; asked at every `iter`.
    """

    def __init__(
        self,
        *,
        steps_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        refuse_bad_rank(rank, world_size)
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch={steps_per_epoch} must be at least 1")
        self.steps_per_epoch = steps_per_epoch
        self.rank = rank
        self.world_size = world_size
        self.first_step = first_step

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[Slot]]:
        first_step = self.first_step()
        for step in range(first_step, first_step + self.steps_per_epoch):
            yield self.batch(step)

    @abstractmethod
    def batch(self, step: int) -> list[Slot]:
        """Returns this rank's slots of batch number `step`."""


class ResumableBatchSampler(SteppedBatchSampler):
    """Yields one rank's part of each global batch.

    Args:
        plan: the order.
        slots_per_batch: of this rank.
        steps_per_epoch: see `SteppedBatchSampler`, also for the others.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        slots_per_batch: int,
        steps_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(
            steps_per_epoch=steps_per_epoch, rank=rank, world_size=world_size, first_step=first_step
        )
        if slots_per_batch < 1:
            raise ValueError(f"slots_per_batch={slots_per_batch} must be at least 1")
        self.plan = plan
        self.slots_per_batch = slots_per_batch

    def batch(self, step: int) -> list[Slot]:
        """Returns this rank's slots of batch number `step`: a contiguous part of the global one."""
        first = (step * self.world_size + self.rank) * self.slots_per_batch
        return self.plan.slots(first, self.slots_per_batch)


class EvaluationBatchSampler(Sampler[list[Slot]]):
    """Yields one rank's part of one pass in which every clip of every sample comes exactly once.

    All ranks take the same number of steps, so none waits for another for ever. Where the samples
    do not fill the last global batch, slots marked as padding do. A sample with more clips than a
    batch has rows is divided over neighbouring batches, as evenly as can be.

    Args:
        num_samples: of the set.
        batch_size: rows of this rank's batch, at most.
        clips_per_sample: rows that a sample gives.
        seed: of the samples' own random numbers, if they draw any.
        rank: this process, in [0, world_size).
        world_size: number of processes.
        max_steps: stop after so many batches; None: the whole pass.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        clips_per_sample: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_steps: int | None = None,
    ) -> None:
        refuse_bad_rank(rank, world_size)
        counts = (num_samples, batch_size, clips_per_sample, max_steps or 1)
        if min(counts) < 1 or max_steps == 0:
            raise ValueError(
                f"num_samples={num_samples}, batch_size={batch_size}, "
                f"clips_per_sample={clips_per_sample} and max_steps={max_steps} must be at least 1"
            )
        self.num_samples = num_samples
        self.clips_per_sample = clips_per_sample
        self.slots_per_sample = -(-clips_per_sample // batch_size)
        self.slots_per_batch = max(batch_size // clips_per_sample, 1)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        steps = -(-num_samples * self.slots_per_sample // (self.slots_per_batch * world_size))
        self.num_steps = steps if max_steps is None else min(steps, max_steps)

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[Slot]]:
        for step in range(self.num_steps):
            first = (step * self.world_size + self.rank) * self.slots_per_batch
            yield [self._slot(first + place) for place in range(self.slots_per_batch)]

    def _slot(self, position: int) -> Slot:
        sample, part = divmod(position, self.slots_per_sample)
        return Slot(
            sample % self.num_samples,
            mixed_seed(self.seed, sample),
            is_padding=sample >= self.num_samples,
            clips=self._clips(part),
        )

    def _clips(self, part: int) -> tuple[int, int] | None:
        """Returns the clips of one of a sample's slots; None if it has only one."""
        count, parts = self.clips_per_sample, self.slots_per_sample
        return None if parts == 1 else (part * count // parts, (part + 1) * count // parts)


def refuse_bad_rank(rank: int, world_size: int) -> None:
    """Raises ValueError if a rank is not in [0, world_size)."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")


def steps_in_one_pass(
    num_samples: int, clips_per_sample: int, *, batch_size: int, world_size: int
) -> int:
    """Returns how many global batches one pass over the samples fills.

    Raises:
        ValueError: if one pass does not fill a single batch, or if a batch holds no whole number
            of samples.
    """
    if batch_size % clips_per_sample:
        raise ValueError(
            f"batch_size={batch_size} must be a multiple of the {clips_per_sample} clips taken "
            "from each sample"
        )
    steps = num_samples * clips_per_sample // (batch_size * world_size)
    if steps == 0:
        clips = f" x {clips_per_sample} clips" if clips_per_sample > 1 else ""
        raise ValueError(
            f"{num_samples} samples{clips} < global batch {batch_size * world_size}; lower "
            "batch_size, or set steps_per_epoch to repeat samples within a batch"
        )
    return steps


def mixed_seed(seed: int, position: int) -> int:
    """Returns a 63-bit seed that looks unrelated for neighbouring arguments (SplitMix64)."""
    state = (seed * 0x9E3779B97F4A7C15 + position + 1) & _MASK
    for _ in range(2):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
