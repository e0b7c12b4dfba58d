"""From a value for every step of a rollout to one for the rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor


@dataclass(frozen=True)
class Discounted:
    """The weighted mean of the steps, in which each counts `gamma` times as much as the one before.

    Args:
        gamma: in (0, 1]; 1 is the mean, and towards 0 only the first step is left.

    Raises:
        ValueError: if gamma is out of range.
    """

    gamma: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma}")

    def weights(self, like: Tensor) -> Tensor:
        """Returns the weights (horizon,), which add up to 1, of values (..., horizon)."""
        steps = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
        weights = self.gamma**steps
        return weights / weights.sum()


# Of a distance to the goal: what all steps say, the end alone, or the more the sooner.
Reduction = Literal["mean", "last"] | Discounted
# Of a penalty: one bad step may be what matters.
PenaltyReduction = Literal["mean", "max", "last"]


def over_steps(values: Tensor, reduction: Reduction | PenaltyReduction) -> Tensor:
    """Reduces values (..., horizon) to (...). NaN in a step that counts makes NaN."""
    if isinstance(reduction, Discounted):
        return (values * reduction.weights(values)).sum(-1)
    if reduction == "last":
        return values[..., -1]
    return values.mean(-1) if reduction == "mean" else values.amax(-1)


def refuse_other_reductions(reduction: object) -> None:
    """Raises ValueError unless it is a `Reduction`."""
    if reduction not in ("mean", "last") and not isinstance(reduction, Discounted):
        raise ValueError(
            f"reduction must be 'mean' or 'last', got {reduction!r}; Discounted(gamma) is one too"
        )


def refuse_other_penalty_reductions(reduction: object) -> None:
    """Raises ValueError unless it is a `PenaltyReduction`."""
    if reduction not in get_args(PenaltyReduction):
        raise ValueError(f"reduction must be 'mean', 'max' or 'last', got {reduction!r}")
