"""Squared distance between predicted and target latents as they are."""

from __future__ import annotations

from torch import Tensor

from jepa.objectives.base import (
    LossTerms,
    Objective,
    at_least_float32,
    refuse_different_shapes,
)


class LatentMSE(Objective):
    """mean (predicted - target)^2 without layer norm (LeJEPA, arXiv:2511.08544; LeWM).

    Args:
        stop_gradient: False lets gradient flow into the target too: encoder and predictor meet
            half way, without a teacher. Alone that collapses; add a `Regularizer`.
    """

    def __init__(self, *, stop_gradient: bool = True) -> None:
        super().__init__()
        self.target_needs_gradient = not stop_gradient

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """See `Objective.forward`."""
        refuse_different_shapes(predicted, target)
        if not self.target_needs_gradient:
            target = target.detach()
        loss = (at_least_float32(predicted) - at_least_float32(target)).square().mean()
        return LossTerms(loss, {"prediction": loss})
