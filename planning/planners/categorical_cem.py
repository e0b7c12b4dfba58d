"""The cross-entropy method over sequences of choices, for discrete actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from planning.actions.sampling import ActionDistribution
from planning.search.rounds import (
    Candidates,
    Search,
    SearchPlanner,
    refuse_bad_population,
    refuse_outside_unit_interval,
)
from planning.search.space import SearchSpace, WarmStart


@dataclass(frozen=True)
class CategoricalCEM(SearchPlanner):
    """Draws a choice for each step, keeps the elites, refits the probabilities, repeats.

    For action specs of the kind "one_hot": an action is a row with a 1 at its choice. The first
    sequence of a round is the most probable one.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences per iteration.
        num_elites: best sequences that the next probabilities are fitted to.
        num_iterations: rounds.
        momentum: share of the old probabilities that is kept, in [0, 1).
        min_probability: share of a step's probability that is spread evenly over all choices, in
            [0, 1): none is ever ruled out.
        warm_probability: of the choice that a previous plan made for a step, in [0, 1).
    """

    action_kind: ClassVar[str] = "one_hot"

    num_samples: int = 256
    num_elites: int = 24
    num_iterations: int = 6
    momentum: float = 0.1
    min_probability: float = 0.05
    warm_probability: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_bad_population(
            num_samples=self.num_samples,
            num_elites=self.num_elites,
            num_iterations=self.num_iterations,
        )
        refuse_outside_unit_interval(
            momentum=self.momentum,
            min_probability=self.min_probability,
            warm_probability=self.warm_probability,
        )

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        probabilities = self._first(space, warm)
        for _ in range(self.num_iterations):
            sequences = draw_choices(probabilities, self.num_samples, generator=generator)
            sequences[0] = one_hot(probabilities.argmax(-1), like=probabilities)
            scores = yield Candidates(sequences, _distribution(probabilities), self.num_elites)
            elites = sequences[scores.best(self.num_elites)]
            if len(elites):
                fitted = torch.lerp(elites.mean(0), probabilities, self.momentum)
                probabilities = self._floored(fitted)
        return _distribution(probabilities)

    def _first(self, space: SearchSpace, warm: WarmStart | None) -> Tensor:
        """Returns probabilities (steps, choices): even, but for what the plan before chose."""
        even = torch.full_like(space.low, 1 / space.low.shape[-1])
        if warm is None:
            return even
        share = torch.zeros_like(space.low[:, :1])
        share[: warm.num_planned] = self.warm_probability
        chosen = one_hot(warm.sequence.argmax(-1), like=even)
        return self._floored(torch.lerp(even, chosen, share))

    def _floored(self, probabilities: Tensor) -> Tensor:
        """Mixes probabilities (steps, choices) with even ones."""
        return torch.lerp(
            probabilities, torch.full_like(probabilities, 1 / probabilities.shape[-1]),
            self.min_probability,
        )  # fmt: skip


def draw_choices(probabilities: Tensor, num_samples: int, *, generator: Generator) -> Tensor:
    """Draws rows with a 1 at a choice: (samples, steps, choices), from (steps, choices)."""
    steps, _ = probabilities.shape
    shape = (num_samples, steps)
    uniform = torch.rand(shape, generator=generator, device=generator.device).to(probabilities)
    below = probabilities.cumsum(-1)[:, :-1]  # the last choice takes what rounding leaves
    return one_hot((uniform[..., None] >= below).sum(-1), like=probabilities)


def one_hot(choices: Tensor, *, like: Tensor) -> Tensor:
    """Returns rows (..., choices) with a 1 at each choice (...), of the type of `like`."""
    return F.one_hot(choices, like.shape[-1]).to(like)


def _distribution(probabilities: Tensor) -> ActionDistribution:
    """Returns the mean and the standard deviation of independent choices."""
    return ActionDistribution(probabilities, (probabilities * (1 - probabilities)).sqrt())
