"""Which dataset comes when, in a weighted mixture: pure functions of the position.

Shares are exact, not drawn: within every period each dataset has its number of slots, in an order
that the seed shuffles. So nothing drifts, and slot number n is known without the slots before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch

from data_pipelines.plan import EpochPlan, Slot, SteppedBatchSampler, mixed_seed

MAX_PERIOD = 4096


class MixturePlan:
    """An endless row of slots over several datasets, as if these lay one after the other.

    Args:
        plans: of each dataset.
        weights: how often each is visited, as parts of one another; shares are exact if the
            weights are ratios of small numbers, else right to 1 part in 4096.
        seed: of the order of the datasets.

    Attributes:
        slots_per_period: slots of each dataset in one period.
    """

    def __init__(
        self, plans: Sequence[EpochPlan], weights: Sequence[float], *, seed: int = 0
    ) -> None:
        if len(plans) != len(weights) or not plans:
            raise ValueError(f"{len(weights)} weights for {len(plans)} datasets")
        self.plans = tuple(plans)
        self.slots_per_period = slots_per_period(weights)
        self.period = sum(self.slots_per_period)
        self.seed = seed
        sizes = torch.tensor([plan.num_samples for plan in plans])
        self.first_samples = (sizes.cumsum(0) - sizes).tolist()  # of each, in the joined set
        self._newest: tuple[int, list[tuple[int, int]]] = (-1, [])

    def slots(self, first: int, count: int) -> list[Slot]:
        """Returns `count` slots of the endless row, from number `first` on."""
        return [self._slot(position) for position in range(first, first + count)]

    def _slot(self, position: int) -> Slot:
        period_index, place = divmod(position, self.period)
        dataset, turn = self._order(period_index)[place]
        number = period_index * self.slots_per_period[dataset] + turn  # of this dataset's slots
        (slot,) = self.plans[dataset].slots(number, 1)
        return Slot(self.first_samples[dataset] + slot.sample_index, mixed_seed(slot.seed, dataset))

    def _order(self, period_index: int) -> list[tuple[int, int]]:
        """Returns of each place in a period which dataset it is, and which of its turns."""
        if self._newest[0] != period_index:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, period_index))
            counts = torch.tensor(self.slots_per_period)
            datasets = torch.arange(len(counts)).repeat_interleave(counts)
            turns, order = [0] * len(counts), []
            for dataset in datasets[torch.randperm(self.period, generator=generator)].tolist():
                order.append((dataset, turns[dataset]))
                turns[dataset] += 1
            self._newest = (period_index, order)
        return self._newest[1]


class AlternatingBatchSampler(SteppedBatchSampler):
    """Yields one rank's batches of two kinds, whose samples cannot share one: videos and images.

    All ranks take the same kind at the same step, so none waits for a slower kind. The second kind
    is spread evenly: step k is of the second kind where floor(fraction * k) grows.

    Args:
        plans: of the two kinds; the samples of the second come after those of the first.
        slots_per_batch: of this rank, of either kind.
        num_first_samples: size of the first kind.
        fraction: steps of the second kind, in [0, 1).
        steps_per_epoch: see `SteppedBatchSampler`, also for the others.
    """

    def __init__(
        self,
        plans: tuple[MixturePlan, MixturePlan],
        *,
        slots_per_batch: tuple[int, int],
        num_first_samples: int,
        fraction: float,
        steps_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(
            steps_per_epoch=steps_per_epoch, rank=rank, world_size=world_size, first_step=first_step
        )
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction must be in [0, 1), got {fraction}")
        if min(slots_per_batch) < 1:
            raise ValueError(f"slots_per_batch={slots_per_batch} must be at least 1")
        self.plans = plans
        self.slots_per_batch = slots_per_batch
        self.num_first_samples = num_first_samples
        self.fraction = Fraction(fraction).limit_denominator(MAX_PERIOD)

    def batch(self, step: int) -> list[Slot]:
        """Returns this rank's slots of batch number `step`: a contiguous part of the global one."""
        before = math.floor(self.fraction * step)  # steps of the second kind so far
        kind = int(math.floor(self.fraction * (step + 1)) > before)
        turn = before if kind else step - before
        count = self.slots_per_batch[kind]
        slots = self.plans[kind].slots((turn * self.world_size + self.rank) * count, count)
        shift = self.num_first_samples if kind else 0
        return [slot._replace(sample_index=slot.sample_index + shift) for slot in slots]


def slots_per_period(weights: Sequence[float]) -> tuple[int, ...]:
    """Returns whole numbers in the ratio of the weights, as small as they can be.

    Raises:
        ValueError: if a weight is not positive and finite, or too small beside the others.
    """
    if any(not 0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights must be positive and finite, got {list(weights)}")
    shares = [Fraction(weight).limit_denominator(1000) for weight in weights]
    if min(shares) > 0:
        scale = math.lcm(*(share.denominator for share in shares))
        counts = [int(share * scale) for share in shares]
        counts = [count // math.gcd(*counts) for count in counts]
        if sum(counts) <= MAX_PERIOD:
            return tuple(counts)
    total = math.fsum(weights)
    counts = [round(weight / total * MAX_PERIOD) for weight in weights]
    if min(counts) == 0:
        raise ValueError(
            f"the weight {min(weights):g} is less than 1 part in {2 * MAX_PERIOD} of all "
            f"({total:g}): leave that dataset out, or give it more"
        )
    return tuple(counts)


def weights_by_size(sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the sizes of datasets as weights; a tiny one counts more, so that it comes at all.

    Each is met at least once in a period of `MAX_PERIOD` slots.
    """
    least = math.ceil(sum(sizes) / MAX_PERIOD)
    return tuple(max(size, least) for size in sizes)
