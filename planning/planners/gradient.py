"""Gradient descent on the actions, through the imagined rollout (Adam, arXiv:1412.6980)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator

from planning.actions.sampling import ActionDistribution, sample_sequences
from planning.search.gradient_descent import Descent, cosine_scale
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
class Gradient(SearchPlanner):
    """Goes downhill from several starts and returns the best sequence it ever evaluated.

    One start is the rest of the previous plan or the middle of the bounds. What happens at bounds,
    on plateaus and where sequences are ruled out: see `planning.search.gradient_descent.Descent`.
    The world model and the cost must be differentiable.

    Args:
        horizon: actions in a sequence.
        num_starts: sequences that go downhill at once.
        num_iterations: steps of each.
        step_size: of Adam at first, in half-ranges of the action bounds.
        last_step_share: of the step size at the last step; between, it falls like a cosine.
        momentum: Adam's first beta, in [0, 1).
        second_momentum: Adam's second beta, in [0, 1).
        initial_std: standard deviation of the starts, in half-ranges.
        warm_std: likewise, of the steps that a previous plan covers.
        smoothness: of the starts, correlation of neighbouring steps, in [0, 1).
    """

    num_starts: int = 16
    num_iterations: int = 30
    step_size: float = 0.4
    last_step_share: float = 0.1
    momentum: float = 0.5
    second_momentum: float = 0.95
    initial_std: float = 0.7
    warm_std: float = 0.4
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_counts_below_one(num_starts=self.num_starts, num_iterations=self.num_iterations)
        refuse_not_positive(
            step_size=self.step_size,
            last_step_share=self.last_step_share,
            initial_std=self.initial_std,
            warm_std=self.warm_std,
        )
        refuse_outside_unit_interval(
            momentum=self.momentum,
            second_momentum=self.second_momentum,
            smoothness=self.smoothness,
        )

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        starts = sample_sequences(
            first_distribution(space, warm, std=self.initial_std, warm_std=self.warm_std),
            self.num_starts,
            space=space,
            smoothness=self.smoothness,
            generator=generator,
        )
        betas = (self.momentum, self.second_momentum)
        descent = Descent.at(space, starts, step_size=self.step_size, betas=betas)
        for iteration in range(self.num_iterations):
            scores = yield Candidates(
                descent.sequences, around(descent), self.num_starts, needs_gradients=True
            )
            scale = cosine_scale(iteration / self.num_iterations, self.last_step_share)
            descent.advance(scores, scale=scale, generator=generator)
        return around(descent)


def around(descent: Descent) -> ActionDistribution:
    """Returns the best sequence so far, and how far the starts are from one another."""
    return ActionDistribution(descent.best_sequence, descent.sequences.std(0, correction=0))
