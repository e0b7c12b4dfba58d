"""How unsure the world model is: where it has seen little, the members of an ensemble differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.costs.reductions import (
    PenaltyReduction,
    over_steps,
    refuse_other_penalty_reductions,
)
from planning.types import Latent


@dataclass(frozen=True)
class Disagreement:
    """How far the members of an ensemble are apart along a rollout.

    Members differ a little everywhere, more the further they imagine and the more is done: without
    a threshold the penalty is one on moving too. `Disagreement.calibrated` sets what is normal.

    Args:
        reduction: over the steps; "max" is as unsure as the worst step.
        unit: what counts as 1, so that a weight means the same for another ensemble.
        threshold: disagreement that is normal and costs nothing: one for all steps, or (horizon,).

    Raises:
        ValueError: if the reduction is another one, or unit or threshold are out of range.
    """

    reduction: PenaltyReduction = "mean"
    unit: float = 1.0
    threshold: float | Tensor = 0.0

    def __post_init__(self) -> None:
        refuse_other_penalty_reductions(self.reduction)
        if not 0 < self.unit < math.inf:
            raise ValueError(f"unit must be positive and finite, got {self.unit}")
        threshold = torch.as_tensor(self.threshold)
        if threshold.ndim > 1 or not bool(((threshold >= 0) & threshold.isfinite()).all()):
            raise ValueError(
                "threshold must be a number or (horizon,), at least 0 and finite, got "
                f"{threshold.tolist()}"
            )

    @classmethod
    def calibrated(
        cls, familiar: Tensor, *, quantile: float = 0.9, reduction: PenaltyReduction = "mean"
    ) -> Disagreement:
        """Returns the penalty of being more unsure than on what is known.

        Args:
            familiar: (rollouts, horizon), disagreement along actions of recorded trajectories that
                the world model was not trained on.
            quantile: share of them that costs nothing at each step, in (0, 1).
            reduction: over the steps.

        Raises:
            ValueError: if the quantile is out of range, or there is no disagreement, or one that
                is not finite.
        """
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must be in (0, 1), got {quantile}")
        if familiar.ndim != 2 or not len(familiar):
            raise ValueError(
                f"familiar must be (rollouts, horizon), at least one, got {tuple(familiar.shape)}"
            )
        threshold = torch.quantile(familiar, quantile, dim=0)
        if not 0 < (unit := threshold.mean().item()) < math.inf:
            raise ValueError(
                f"familiar rollouts must disagree by more than 0 and finitely, their quantile "
                f"{quantile:g} is {threshold.tolist()}; see whether the members are all alike"
            )
        return cls(reduction, unit, threshold)

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,).

        Raises:
            ValueError: if the world model has one member, or the threshold is of another horizon.
        """
        disagreement = imagined.disagreement
        if disagreement is None:
            raise ValueError(
                "the disagreement penalty needs a world model with an ensemble, this one has one "
                "member; train with an ensemble, or use OutOfDistribution"
            )
        threshold = torch.as_tensor(self.threshold).to(disagreement)
        if threshold.ndim and len(threshold) != disagreement.shape[-1]:
            raise ValueError(
                f"the threshold has {len(threshold)} steps, the rollouts have "
                f"{disagreement.shape[-1]}; calibrate with the planner's horizon"
            )
        excess = (disagreement - threshold).clamp_min(0)
        return over_steps(excess, self.reduction) / self.unit
