"""Random shooting: the simplest planner, and the file to copy for a new one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator

from planning.actions.sampling import sample_sequences
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
class RandomShooting(SearchPlanner):
    """Imagines many random sequences and returns the best.

    One of them is the rest of the previous plan, or, without one, the middle of the bounds. It is
    one batch, so a deadline cannot shorten it.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences, in all.
        std: standard deviation, in half-ranges of the action bounds.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    num_samples: int = 1024
    std: float = 0.7
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_counts_below_one(num_samples=self.num_samples)
        refuse_not_positive(std=self.std)
        refuse_outside_unit_interval(smoothness=self.smoothness)

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        distribution = first_distribution(space, None, std=self.std, warm_std=self.std)
        sequences = sample_sequences(
            distribution,
            self.num_samples,
            space=space,
            smoothness=self.smoothness,
            generator=generator,
        )
        if warm is not None:
            sequences[0] = space.clip(warm.sequence)
        yield Candidates(sequences, distribution)
        return distribution
