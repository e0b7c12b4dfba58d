"""Norms and clipping of the gradients of whole parts of a model, whole or sharded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


@dataclass(frozen=True)
class GradientClipping:
    """Clips each part of the model by its own norm, as V-JEPA does with encoder and predictor.

    (`trainer.gradient_clip_val` clips all of them by the norm of all; both can be on.)

    Args:
        max_norm: of the gradients of one part, positive.
        first_step: updates before this one are not clipped; V-JEPA: the end of its warm-up.
    """

    max_norm: float = 10.0
    first_step: int = 0

    def __post_init__(self) -> None:
        if not self.max_norm > 0 or self.first_step < 0:
            raise ValueError(
                "max_norm must be positive and first_step at least 0, got "
                f"{self.max_norm} and {self.first_step}"
            )

    def clip(self, module: nn.Module, norm: Tensor, *, step: int) -> None:
        """Scales the gradients of a part down to the norm; they are what `norm` was taken of."""
        if step >= self.first_step:
            clip_grads_with_norm_(module.parameters(), self.max_norm, norm)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns the Euclidean norm of all gradients, a scalar; 0 without any.

    Of sharded parameters it is the norm over all ranks, so all of them have to call this.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device if parameters else None)
    norm = get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def drop_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Leaves an optimizer nothing to do: without gradients it touches neither weights nor state."""
    for parameter in parameters:
        parameter.grad = None
