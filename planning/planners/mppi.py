"""Path-integral control over action sequences, MPPI (Williams et al. 2017, arXiv:1707.02342)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from planning.actions.sampling import ActionDistribution, sample_sequences
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
class MPPI(SearchPlanner):
    """Samples, weighs the best by the exponential of their costs, moves there, repeats.

    As in TD-MPC2 (arXiv:2310.16828) only the elites are weighed and the standard deviation may
    follow them. Here the temperature is relative to how much the elites' costs differ, so that the
    unit of the cost is of no account.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences per round.
        num_elites: best sequences that are weighed.
        num_iterations: rounds.
        temperature: in standard deviations of the elites' costs: near 0 only the best counts, far
            above 1 all elites alike.
        updates_std: let the standard deviation follow the weighted elites; else it stays.
        momentum: share of the old mean and std that is kept, in [0, 1).
        initial_std: first standard deviation, in half-ranges of the action bounds.
        warm_std: first standard deviation of the steps that a previous plan covers.
        min_std: floor of the standard deviation, in half-ranges.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    num_samples: int = 256
    num_elites: int = 64
    num_iterations: int = 6
    temperature: float = 0.5
    updates_std: bool = True
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
            temperature=self.temperature,
            initial_std=self.initial_std,
            warm_std=self.warm_std,
            min_std=self.min_std,
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
            best = scores.best(self.num_elites)
            if len(best):
                weights = path_weights(scores.costs[best], temperature=self.temperature)
                distribution = self._moved(distribution, sequences[best], weights, min_std)
        return distribution

    def _moved(
        self, distribution: ActionDistribution, elites: Tensor, weights: Tensor, min_std: Tensor
    ) -> ActionDistribution:
        """Returns the distribution after a move to the weighted elites (elites, steps, dim)."""
        weights = weights.to(elites)
        mean = torch.einsum("e,esd->sd", weights, elites)
        variance = torch.einsum("e,esd->sd", weights, (elites - mean).square())
        std = distribution.std
        if self.updates_std:
            std = torch.maximum(torch.lerp(variance.sqrt(), std, self.momentum), min_std)
        return ActionDistribution(torch.lerp(mean, distribution.mean, self.momentum), std)


def path_weights(costs: Tensor, *, temperature: float) -> Tensor:
    """Returns weights (samples,) that add up to 1: exp(-cost / (temperature · their spread)).

    Adding to all costs, or multiplying them, changes no weight. Infinite costs weigh nothing; equal
    costs weigh the same.

    Args:
        costs: (samples,), at least one of them finite, none NaN.
        temperature: in standard deviations of the finite costs.
    """
    is_finite = costs.isfinite()
    half = costs[is_finite].double() / 2  # so that the difference of two costs cannot overflow
    above = half - half.min()
    above = above / above.max().clamp(min=torch.finfo(above.dtype).tiny)  # in [0, 1]
    spread = above.std(correction=0).clamp(min=torch.finfo(above.dtype).eps)
    weights = torch.zeros_like(costs)
    weights[is_finite] = torch.softmax(-above / spread / temperature, 0).to(weights)
    return weights
