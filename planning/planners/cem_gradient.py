"""CEM whose best samples go downhill: gradients where they help, samples where they do not."""

from __future__ import annotations

from collections.abc import Generator as Coroutine
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from planning.actions.sampling import ActionDistribution, refit, sample_sequences
from planning.search.gradient_descent import Descent, cosine_scale
from planning.search.rounds import (
    Candidates,
    Scores,
    Search,
    SearchPlanner,
    refuse_counts_below_one,
    refuse_more_than_samples,
    refuse_not_positive,
    refuse_outside_unit_interval,
)
from planning.search.space import SearchSpace, WarmStart, first_distribution

ADAM_BETAS = (0.5, 0.95)  # steps are few, so their memory is short
MIN_GAIN = 1e-3  # of its cost: what some start must win in a descent for another to be tried


@dataclass(frozen=True)
class CEMGradient(SearchPlanner):
    """Rounds of CEM; between them the best sequences take some steps of Adam.

    Both work on one pool: good samples become starts of the descent, and what the descent finds
    is among the elites. A descent in which no start gains is not repeated: rounds of CEM take its
    place, so that a world whose gradients do not help is planned by CEM alone.
    `Plan.source` tells who found the plan: "samples" or "gradients".

    Args:
        horizon: actions in a sequence.
        num_samples: sequences drawn in each round of CEM.
        num_elites: best sequences that the next distribution is fitted to.
        num_iterations: rounds of CEM, each with a descent.
        num_starts: sequences that go downhill at once.
        num_steps: steps of each descent; a step costs about three imaginations of each start.
        step_size: of Adam at first, in half-ranges of the action bounds.
        last_step_share: of the step size at the very last step; between, it falls like a cosine.
        momentum: share of the old mean and std that is kept, in [0, 1).
        initial_std: first standard deviation, in half-ranges.
        warm_std: first standard deviation of the steps that a previous plan covers.
        min_std: floor of the standard deviation, in half-ranges.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    num_samples: int = 48
    num_elites: int = 8
    num_iterations: int = 3
    num_starts: int = 4
    num_steps: int = 6
    step_size: float = 0.4
    last_step_share: float = 0.1
    momentum: float = 0.1
    initial_std: float = 0.7
    warm_std: float = 0.4
    min_std: float = 0.05
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_counts_below_one(
            num_samples=self.num_samples,
            num_elites=self.num_elites,
            num_iterations=self.num_iterations,
            num_starts=self.num_starts,
            num_steps=self.num_steps,
        )
        refuse_more_than_samples(
            self.num_samples, num_elites=self.num_elites, num_starts=self.num_starts
        )
        refuse_outside_unit_interval(momentum=self.momentum, smoothness=self.smoothness)
        refuse_not_positive(
            step_size=self.step_size,
            last_step_share=self.last_step_share,
            initial_std=self.initial_std,
            warm_std=self.warm_std,
            min_std=self.min_std,
        )

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        distribution = first_distribution(space, warm, std=self.initial_std, warm_std=self.warm_std)
        descent: Descent | None = None
        helps = True
        for iteration in range(self.num_iterations):
            sequences, costs = yield from self._sample(distribution, space, generator)
            descent = self._pool(descent, space, sequences, costs)
            if helps:
                before = descent.best_costs
                yield from self._descend(descent, distribution, iteration, generator)
                helps = _has_gained(before, descent.best_costs)
            else:
                distribution = self._refitted(distribution, descent, sequences, costs)
                sequences, costs = yield from self._sample(distribution, space, generator)
                descent.offer(sequences, costs)
            distribution = self._refitted(distribution, descent, sequences, costs)
        return distribution

    def _sample(
        self, distribution: ActionDistribution, space: SearchSpace, generator: Generator
    ) -> Coroutine[Candidates, Scores, tuple[Tensor, Tensor]]:
        """One round of CEM: returns sequences (samples, steps, dim) and costs (samples,)."""
        sequences = sample_sequences(
            distribution,
            self.num_samples,
            space=space,
            smoothness=self.smoothness,
            generator=generator,
        )
        num_best = max(self.num_elites, self.num_starts)
        scores = yield Candidates(sequences, distribution, num_best, source="samples")
        return sequences, scores.costs

    def _pool(
        self, descent: Descent | None, space: SearchSpace, sequences: Tensor, costs: Tensor
    ) -> Descent:
        """Returns the descent at the best of its starts and of the samples."""
        if descent is not None:
            descent.offer(sequences, costs)
            return descent
        best = costs.topk(self.num_starts, largest=False).indices
        return Descent.at(
            space,
            sequences[best],
            step_size=self.step_size,
            betas=ADAM_BETAS,
            costs=costs[best],
        )

    def _descend(
        self,
        descent: Descent,
        distribution: ActionDistribution,
        iteration: int,
        generator: Generator,
    ) -> Coroutine[Candidates, Scores, None]:
        """Takes some steps from every start."""
        for step in range(self.num_steps):
            taken = iteration * self.num_steps + step
            progress = taken / (self.num_iterations * self.num_steps)
            scores = yield Candidates(
                descent.sequences,
                distribution,
                self.num_starts,
                needs_gradients=True,
                source="gradients",
            )
            scale = cosine_scale(progress, self.last_step_share)
            descent.advance(scores, scale=scale, generator=generator)

    def _refitted(
        self, distribution: ActionDistribution, descent: Descent, sequences: Tensor, costs: Tensor
    ) -> ActionDistribution:
        """Returns the distribution of the elites among the samples and the best of the descent."""
        known = torch.cat((costs, descent.best_costs))
        elites = torch.cat((sequences, descent.best))[Scores(known).best(self.num_elites)]
        min_std = self.min_std * descent.space.half_range
        return refit(distribution, elites, momentum=self.momentum, min_std=min_std)


def _has_gained(before: Tensor, after: Tensor) -> bool:
    """Returns whether the best cost of some start (starts,) has fallen enough, or is the first."""
    return bool((before - after > MIN_GAIN * after.abs()).any())
