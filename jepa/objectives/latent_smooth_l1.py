"""Smooth distance between predicted latents and layer-normed target latents."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from jepa.objectives.base import (
    LossTerms,
    Objective,
    at_least_float32,
    refuse_different_shapes,
)


class LatentSmoothL1(Objective):
    """Mean Huber-like distance to layer_norm(target) (I-JEPA, as released; arXiv:2301.08243).

    An error e costs e^2 / (2 beta) below beta and |e| - beta / 2 above. (The paper's Eq. 1 writes
    the squared distance; the code that trained its models has this one.)

    Args:
        beta: where the square ends and the straight line begins.
    """

    def __init__(self, *, beta: float = 1.0) -> None:
        super().__init__()
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta}; for beta 0 take LatentL1")
        self.beta = beta

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """See `Objective.forward`."""
        refuse_different_shapes(predicted, target)
        target = F.layer_norm(at_least_float32(target.detach()), target.shape[-1:])
        loss = F.smooth_l1_loss(at_least_float32(predicted), target, beta=self.beta)
        return LossTerms(loss, {"prediction": loss})
