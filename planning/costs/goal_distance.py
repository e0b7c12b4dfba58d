"""What a planner minimises. The planner never knows the goal; a cost does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from planning.types import Latent

Reduction = Literal["mean", "last"]


@dataclass(frozen=True)
class GoalDistance:
    """Distance of imagined latents to the goal's latent.

    Args:
        goal: the encoded goal image, tokens (tokens, dim).
        distance: maps latents (..., tokens, dim) and the goal to (...) distances.
        reduction: "mean" over the steps of the rollout rewards getting there early and staying,
            which matters for navigation; "last" looks at the end only.
    """

    goal: Latent
    distance: Callable[[Tensor, Tensor], Tensor]
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in get_args(Reduction):
            allowed = " or ".join(map(repr, get_args(Reduction)))
            raise ValueError(f"reduction must be {allowed}, got {self.reduction!r}")

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts (samples, horizon, tokens, dim): (samples,)."""
        distances = self.per_step(imagined)
        return distances.mean(-1) if self.reduction == "mean" else distances[..., -1]

    def per_step(self, imagined: Latent) -> Tensor:
        """Distance after every action: (samples, horizon)."""
        return self.distance(imagined.tokens, self.goal.tokens)


def finite_costs(costs: Tensor) -> Tensor:
    """Returns costs (samples,) with +inf for all that are not finite, so that none is the best.

    Raises:
        FloatingPointError: if none is finite: any action chosen then would be meaningless.
    """
    is_finite = costs.isfinite()
    if not is_finite.any():
        raise FloatingPointError(
            f"all {costs.numel()} imagined costs are NaN or infinite; "
            "check the checkpoint and the camera frame"
        )
    return torch.where(is_finite, costs, torch.inf)
