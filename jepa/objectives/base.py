"""What every objective owes: predicted and target latents in, named loss terms out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class LossTerms(NamedTuple):
    """A loss and its parts.

    Attributes:
        total: what is minimised, a scalar.
        parts: named scalars that make it up, logged as loss/<name>.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Compares what was predicted with what is there."""

    @abstractmethod
    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """Compares.

        Args:
            predicted: (batch, targets, dim).
            target: (batch, targets, dim), no gradient flows into it.
        """
