"""Distance between imagined and real latents of a world model."""

from __future__ import annotations

from torch import Tensor

from jepa.objectives.base import (
    LossTerms,
    Objective,
    at_least_float32,
    refuse_different_shapes,
)


class RolloutL1(Objective):
    """mean |predicted - target| over latents as they are (V-JEPA 2, arXiv:2506.09985, Eq. 2 and 3).

    Used for the teacher-forced prediction and for the imagined rollout alike; whoever owns the
    latents has normalised them already.
    """

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """Compares latents of any equal shape."""
        refuse_different_shapes(predicted, target)
        loss = (predicted - at_least_float32(target.detach())).abs().mean()
        return LossTerms(loss, {"prediction": loss})
