"""Asks two neighbouring embeddings which action lies between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.objectives.base import (
    ActionHead,
    LossTerms,
    at_least_float32,
    refuse_negative_weights,
)


class InverseDynamics(ActionHead):
    """Mean squared error of actions told from two frames (PLDM, arXiv:2502.14819; eb_jepa).

    What an action changes has to be in the embeddings then; without it a representation may live
    on what is constant in a clip: in eb_jepa's two rooms success falls from 97 % to 1 %.

    Args:
        weight: in the loss, beside a prediction of weight 1.
        hidden_dim: width of the hidden layer.
    """

    def __init__(self, *, weight: float = 1.0, hidden_dim: int = 512) -> None:
        super().__init__()
        refuse_negative_weights(weight)
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim must be at least 1, got {hidden_dim}")
        self.weight, self.hidden_dim = weight, hidden_dim
        self.head: nn.Sequential | None = None

    def build(self, dim: int, action_dim: int) -> None:
        """See `ActionHead.build`. Built already for the same widths: nothing is done.

        Raises:
            ValueError: if a width is below 1, or it is built for others.
        """
        if dim < 1 or action_dim < 1:
            raise ValueError(f"dim and action_dim must be at least 1, got {dim} and {action_dim}")
        if self.head is None:
            self.head = nn.Sequential(
                nn.Linear(2 * dim, self.hidden_dim),
                nn.GELU(),
                nn.Linear(self.hidden_dim, action_dim),
            )
        elif self._widths() != (dim, action_dim):
            raise ValueError(
                f"built for (dim, action_dim) {self._widths()} already, got {(dim, action_dim)}"
            )

    def forward(self, before: Tensor, after: Tensor, actions: Tensor) -> LossTerms:
        """See `ActionHead.forward`."""
        dim, action_dim = self._widths()
        _refuse_misfit(before, after, actions, dim=dim, action_dim=action_dim)
        assert self.head is not None
        told = self.head(torch.cat([before, after], -1))  # (..., action_dim)
        loss = F.mse_loss(at_least_float32(told), at_least_float32(actions))
        return LossTerms(self.weight * loss, {"inverse_dynamics": loss})

    def _widths(self) -> tuple[int, int]:
        if self.head is None:
            raise RuntimeError("call build(dim, action_dim) before InverseDynamics is used")
        first, last = self.head[0], self.head[-1]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        return first.in_features // 2, last.out_features


def _refuse_misfit(
    before: Tensor, after: Tensor, actions: Tensor, *, dim: int, action_dim: int
) -> None:
    rows = before.shape[:-1]
    if before.shape != (*rows, dim) or after.shape != before.shape:
        raise ValueError(
            f"before and after must be (..., {dim}) alike, got {tuple(before.shape)} and "
            f"{tuple(after.shape)}"
        )
    if actions.shape != (*rows, action_dim):
        raise ValueError(
            f"actions must be {(*rows, action_dim)}, one between each before and after, got "
            f"{tuple(actions.shape)}"
        )
    if not before.numel():
        raise ValueError(f"there is no pair of frames in {tuple(before.shape)}")
