"""The improved cross-entropy method, iCEM (Pinneri et al. 2020, arXiv:2008.06389)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from planning.actions.coloured_noise import coloured_noise
from planning.actions.sampling import ActionDistribution, refit
from planning.search.rounds import (
    Candidates,
    Search,
    SearchPlanner,
    refuse_counts_below_one,
    refuse_not_positive,
    refuse_outside_unit_interval,
)
from planning.search.space import SearchSpace, WarmStart, first_distribution


@dataclass(frozen=True)
class ICEM(SearchPlanner):
    """CEM with coloured noise, elites that are kept, and fewer samples in each round.

    Some elites are imagined again in the next round and, shifted, in the first round of the next
    plan; the mean is imagined in the first round and in the last. Deviations from the paper: the
    standard deviation has a floor, and noise has no power lost to the constant part (see
    `planning.actions.coloured_noise`).

    Args:
        horizon: actions in a sequence.
        num_samples: sequences drawn in the first round.
        num_elites: best sequences that the next distribution is fitted to.
        num_iterations: rounds.
        decay: each round draws so many times fewer sequences than the one before, at least 1;
            never fewer than twice the elites.
        noise_exponent: of the noise's spectrum over the steps of the environment, at least 0: 0 is
            white, 2 nearly a random walk.
        kept_share: share of the elites that is kept, in [0, 1).
        momentum: share of the old mean and std that is kept, in [0, 1).
        initial_std: first standard deviation, in half-ranges of the action bounds.
        warm_std: first standard deviation of the steps that a previous plan covers.
        min_std: floor of the standard deviation, in half-ranges.
    """

    uses_elites: ClassVar[bool] = True

    num_samples: int = 256
    num_elites: int = 24
    num_iterations: int = 6
    decay: float = 1.25
    noise_exponent: float = 2.0
    kept_share: float = 0.3
    momentum: float = 0.1
    initial_std: float = 0.7
    warm_std: float = 0.4
    min_std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_counts_below_one(
            num_samples=self.num_samples,
            num_elites=self.num_elites,
            num_iterations=self.num_iterations,
        )
        if 2 * self.num_elites > self.num_samples:
            raise ValueError(
                f"num_elites={self.num_elites} exceeds half of num_samples={self.num_samples}; "
                "raise num_samples or lower num_elites"
            )
        if not (self.decay >= 1 and self.noise_exponent >= 0):
            raise ValueError(
                f"decay must be at least 1 and noise_exponent at least 0, got {self.decay} and "
                f"{self.noise_exponent}"
            )
        refuse_outside_unit_interval(kept_share=self.kept_share, momentum=self.momentum)
        refuse_not_positive(
            initial_std=self.initial_std, warm_std=self.warm_std, min_std=self.min_std
        )

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        distribution = first_distribution(space, warm, std=self.initial_std, warm_std=self.warm_std)
        min_std = self.min_std * space.half_range
        kept = self._first_kept(space, warm)
        for iteration in range(self.num_iterations):
            drawn = self._draw(distribution, iteration, space, generator)
            sequences = torch.cat((drawn, kept))
            scores = yield Candidates(sequences, distribution, num_best=self.num_elites)
            elites = sequences[scores.best(self.num_elites)]
            distribution = refit(distribution, elites, momentum=self.momentum, min_std=min_std)
            kept = elites[: self._num_kept]
        return distribution

    @property
    def _num_kept(self) -> int:
        return round(self.kept_share * self.num_elites)

    def num_drawn(self, iteration: int) -> int:
        """Returns how many sequences a round draws, from 0."""
        return max(int(self.num_samples * self.decay**-iteration), 2 * self.num_elites)

    def _first_kept(self, space: SearchSpace, warm: WarmStart | None) -> Tensor:
        if warm is None or warm.elites is None:
            return space.low.new_empty(0, *space.low.shape)
        return space.clip(warm.elites[: self._num_kept])

    def _draw(
        self,
        distribution: ActionDistribution,
        iteration: int,
        space: SearchSpace,
        generator: Generator,
    ) -> Tensor:
        """Draws sequences inside the bounds; in the first and last round one is the mean."""
        steps, dim = distribution.mean.shape
        count, exponent = self.num_drawn(iteration), self.noise_exponent
        noise = coloured_noise(count, steps, dim, exponent=exponent, generator=generator)
        noise = noise.to(distribution.mean)
        if iteration in (0, self.num_iterations - 1):
            noise[0] = 0
        return space.clip(distribution.mean + distribution.std * noise)
