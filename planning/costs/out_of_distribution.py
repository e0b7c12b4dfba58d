"""A guard against imagining what the training data know nothing of; needs no ensemble."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from planning.costs.latent_banks import LatentBank
from planning.costs.reductions import (
    PenaltyReduction,
    over_steps,
    refuse_other_penalty_reductions,
)
from planning.types import Latent


@dataclass(frozen=True)
class OutOfDistribution:
    """How far imagined latents are beyond what the bank knows; 0 within its threshold.

    Args:
        bank: latents of the training data.
        reduction: over the steps; "max" is as strange as the strangest step.

    Raises:
        ValueError: if the reduction is another one.
    """

    bank: LatentBank
    reduction: PenaltyReduction = "mean"

    def __post_init__(self) -> None:
        refuse_other_penalty_reductions(self.reduction)

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts (samples, horizon, tokens, dim): (samples,), in thresholds.

        Raises:
            ValueError: if the bank is of another world.
        """
        return over_steps(self.bank.excess(imagined.tokens), self.reduction)
