"""What every objective owes: predicted and target latents in, named loss terms out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
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

        Raises:
            ValueError: if the shapes differ.
        """


def mean_terms(terms: Sequence[LossTerms]) -> LossTerms:
    """Returns the mean of the total and of every part, over terms of one objective."""
    parts = {
        name: torch.stack([term.parts[name] for term in terms]).mean() for name in terms[0].parts
    }
    return LossTerms(torch.stack([term.total for term in terms]).mean(), parts)


def refuse_different_shapes(predicted: Tensor, target: Tensor) -> None:
    """Raises if latents cannot be compared one by one; broadcasting would hide it.

    Raises:
        ValueError: naming both shapes.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"predicted and target must have the same shape, got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}"
        )
