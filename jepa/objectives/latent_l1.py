"""Distance between predicted latents and layer-normed target latents."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from jepa.objectives.base import (
    LossTerms,
    Objective,
    at_least_float32,
    refuse_different_shapes,
)


class LatentL1(Objective):
    """mean |predicted - layer_norm(target)|^p / p (V-JEPA, arXiv:2404.08471, Sec. 3.1).

    Targets are layer-normed without learned scale, so a target encoder cannot lower the loss by
    shrinking its output; predictions are not.

    Args:
        exponent: p, 1 in the papers.
    """

    def __init__(self, *, exponent: float = 1.0) -> None:
        super().__init__()
        if exponent <= 0:
            raise ValueError(f"exponent must be positive, got {exponent}")
        self.exponent = exponent

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """See `Objective.forward`."""
        refuse_different_shapes(predicted, target)
        target = F.layer_norm(at_least_float32(target.detach()), target.shape[-1:])
        error = (predicted - target).abs()
        loss = error.pow(self.exponent).mean() / self.exponent
        return LossTerms(loss, {"prediction": loss})
