"""Several costs as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.types import Cost, Latent


@dataclass(frozen=True)
class WeightedSum:
    """The sum of named costs, each times its weight.

    WeightedSum({"goal": (1.0, GoalDistance(...)), "unsure": (2.0, Disagreement())})

    Args:
        terms: weight and cost by name. A weight of 0 leaves a cost out: it is not computed, and
            rules nothing out.

    Raises:
        ValueError: if there is no term, or a weight is negative or not finite.
    """

    terms: Mapping[str, tuple[float, Cost]]

    def __post_init__(self) -> None:
        if not any(weight for weight, _ in self.terms.values()):
            raise ValueError("a weighted sum needs at least one term with a positive weight")
        for name, (weight, _) in self.terms.items():
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f"the weight of {name!r} must be at least 0 and finite, got {weight}"
                )

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,), the sum of `parts`."""
        return torch.stack(list(self.parts(imagined, actions).values())).sum(0)

    def parts(self, imagined: Latent, actions: Tensor) -> dict[str, Tensor]:
        """Returns what every term adds to the cost, (samples,), weight included: for logs.

        Raises:
            ValueError: if a cost does not return one number for each sample.
        """
        return {
            name: self._part(name, weight, cost, imagined, actions)
            for name, (weight, cost) in self.terms.items()
        }

    def _part(
        self, name: str, weight: float, cost: Cost, imagined: Latent, actions: Tensor
    ) -> Tensor:
        if weight == 0:
            return imagined.tokens.new_zeros(len(actions))
        value = cost(imagined, actions)
        if value.shape != (len(actions),):
            raise ValueError(
                f"the cost {name!r} must return ({len(actions)},), one number for each sample, "
                f"got {tuple(value.shape)}"
            )
        return weight * value
