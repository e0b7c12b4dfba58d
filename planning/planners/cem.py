"""The cross-entropy method over action sequences (V-JEPA 2, arXiv:2506.09985, Sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator

from planning.actions.sampling import refit, sample_sequences
from planning.search.rounds import (
    Candidates,
    Search,
    SearchPlanner,
    refuse_bad_population,
    refuse_not_positive,
    refuse_outside_unit_interval,
)
from planning.search.space import SearchSpace, WarmStart, first_distribution


@dataclass(frozen=True)
class CEM(SearchPlanner):
    """Samples, keeps the elites, refits, repeats; returns the best sequence it ever evaluated.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences per iteration.
        num_elites: best sequences that the next distribution is fitted to; fewer where fewer
            have a finite cost.
        num_iterations: rounds.
        momentum: share of the old mean and std that is kept, in [0, 1).
        initial_std: first standard deviation, in half-ranges of the action bounds.
        warm_std: first standard deviation of the steps that a previous plan covers.
        min_std: floor of the standard deviation, in half-ranges.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    num_samples: int = 256
    num_elites: int = 24
    num_iterations: int = 6
    momentum: float = 0.1
    initial_std: float = 0.7
    warm_std: float = 0.4
    min_std: float = 0.05
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_bad_population(
            num_samples=self.num_samples,
            num_elites=self.num_elites,
            num_iterations=self.num_iterations,
        )
        refuse_outside_unit_interval(momentum=self.momentum, smoothness=self.smoothness)
        refuse_not_positive(
            initial_std=self.initial_std, warm_std=self.warm_std, min_std=self.min_std
        )

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        distribution = first_distribution(space, warm, std=self.initial_std, warm_std=self.warm_std)
        min_std = self.min_std * space.half_range
        for _ in range(self.num_iterations):
            sequences = sample_sequences(
                distribution,
                self.num_samples,
                space=space,
                smoothness=self.smoothness,
                generator=generator,
            )
            scores = yield Candidates(sequences, distribution, num_best=self.num_elites)
            elites = sequences[scores.best(self.num_elites)]
            distribution = refit(distribution, elites, momentum=self.momentum, min_std=min_std)
        return distribution
