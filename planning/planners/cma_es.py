"""Covariance matrix adaptation, CMA-ES (Hansen, arXiv:1604.00772), by the library `cma`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cma
import numpy as np
import torch
from torch import Generator, Tensor

from planning.actions.sampling import ActionDistribution
from planning.search.rounds import (
    Candidates,
    Search,
    SearchPlanner,
    refuse_counts_below_one,
    refuse_not_positive,
)
from planning.search.space import SearchSpace, WarmStart, first_distribution

MIN_STD_SHARE = 1e-9  # of a half-range: what has nothing to choose still needs a scale


@dataclass(frozen=True)
class CMAES(SearchPlanner):
    """Learns which steps and dimensions should change together; needs more rounds than CEM.

    The mean is imagined in every round beside what the library asks for. All randomness is drawn
    from the generator.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences that the library asks for in each round, at least 3.
        num_iterations: rounds.
        initial_std: first standard deviation, in half-ranges of the action bounds.
        warm_std: first standard deviation of the steps that a previous plan covers.
    """

    num_samples: int = 32
    num_iterations: int = 24
    initial_std: float = 0.5
    warm_std: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_counts_below_one(num_iterations=self.num_iterations, num_samples=self.num_samples)
        if self.num_samples < 3:
            raise ValueError(f"num_samples must be at least 3, got {self.num_samples}")
        refuse_not_positive(initial_std=self.initial_std, warm_std=self.warm_std)

    def search(self, space: SearchSpace, warm: WarmStart | None, generator: Generator) -> Search:
        """See `planning.search.rounds.SearchPlanner.search`."""
        first = first_distribution(space, warm, std=self.initial_std, warm_std=self.warm_std)
        first = first._replace(mean=space.clip(first.mean))
        strategy = _strategy(space, first, self.num_samples, generator)
        distribution = first
        for _ in range(self.num_iterations):
            asked = strategy.ask()
            sequences = _sequences(np.stack(asked), space)
            sequences = torch.cat((distribution.mean[None], sequences))
            scores = yield Candidates(sequences, distribution, num_best=self.num_samples // 2)
            strategy.tell(asked, _finite(scores.costs[1:]))
            distribution = _distribution(strategy, space)
        return distribution


def _strategy(
    space: SearchSpace, first: ActionDistribution, num_samples: int, generator: Generator
) -> Any:  # noqa: ANN401
    """Returns the library's search in half-ranges, from -1 to 1, all steps after one another."""
    scale = space.half_range.clamp(min=1e-12)
    mean = ((first.mean - space.middle) / scale).flatten()
    stds = (first.std / scale).flatten().clamp(min=MIN_STD_SHARE)

    def normal(*shape: int) -> np.ndarray:
        return torch.randn(shape, generator=generator, device=generator.device).cpu().numpy()

    options = {
        "bounds": [-1, 1],
        "CMA_stds": _padded(stds, 1.0),
        "popsize": num_samples,
        "randn": normal,
        "seed": math.nan,  # touches nobody's randomness
        "signals_filename": "",  # reads no file
        "verbose": -10,
    }
    return cma.CMAEvolutionStrategy(_padded(mean.clamp(-1, 1), 0.0), 1.0, options)


def _padded(values: Tensor, padding: float) -> np.ndarray:
    """Returns at least two values, as the library needs them; the second is of no account."""
    found = values.double().cpu().numpy()
    return found if len(found) > 1 else np.array([found[0], padding])


def _sequences(found: np.ndarray, space: SearchSpace) -> Tensor:
    """Returns (samples, steps, dim), inside the space, of what the library found."""
    count = space.low.numel()
    values = torch.from_numpy(found[..., :count]).to(space.low)
    return space.clip(space.middle + space.half_range * values.unflatten(-1, space.low.shape))


def _finite(costs: Tensor) -> list[float]:
    """Returns costs of which those that were ruled out are worse than all others.

    The search looks at their order only.
    """
    values = costs.double().cpu().numpy()
    is_finite = np.isfinite(values)
    if not is_finite.any():
        return [0.0] * len(values)
    least, most = values[is_finite].min(), values[is_finite].max()
    return np.where(is_finite, values, most + 1 + abs(most - least)).tolist()


def _distribution(strategy: Any, space: SearchSpace) -> ActionDistribution:  # noqa: ANN401
    """Returns the mean, and the standard deviation of each value by itself."""
    count = space.low.numel()
    result = strategy.result
    mean = _sequences(np.asarray(result.xfavorite)[None], space)[0]
    stds = torch.from_numpy(np.asarray(result.stds)[:count]).to(space.low)
    return ActionDistribution(mean, stds.view(space.low.shape) * space.half_range)
