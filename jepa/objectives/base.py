"""What every part of a loss owes: latents in, named loss terms out.

An `Objective` compares what was predicted with what is there. A `Regularizer` looks at the
embeddings of a batch alone, and keeps them from collapsing where no teacher does. An `ActionHead`
asks them for the action between two frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa.objectives.ranks import num_ranks, sum_over_ranks


class LossTerms(NamedTuple):
    """A loss and its parts.

    Attributes:
        total: what is minimised, a scalar; weights are in it.
        parts: named scalars that make it up, without weights, logged as loss/<name>.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Compares what was predicted with what is there.

    Attributes:
        target_needs_gradient: True if gradient flows into the target too. Then there is no
            teacher, the target must be computed with gradient, and a regularizer is needed.
    """

    target_needs_gradient: bool = False

    @abstractmethod
    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """Compares.

        Args:
            predicted: (batch, targets, dim).
            target: (batch, targets, dim), no gradient flows into it unless
                `target_needs_gradient`.

        Raises:
            ValueError: if the shapes differ.
        """


class Regularizer(nn.Module, ABC):
    """Asks something of the embeddings of a batch, mostly that they stay apart.

    Its weight in the loss is its own, and in `LossTerms.total` already. In training mode statistics
    are those of the joined batch of all ranks, with exact gradients once DDP or FSDP has averaged
    them, so every rank must come by; with gradient accumulation they are those of one part of the
    batch. In evaluation mode they are those of the rank alone: one whose batch is padding may
    stay away.
    """

    def forward(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """Returns what the embeddings cost, computed in float32 also under autocast.

        Args:
            embeddings: (..., rows, dim): rows are samples that may be told apart, such as clips.
                Statistics are taken over rows and averaged over what comes before: embeddings
                (time, batch, dim) of frames are looked at time by time.
            step: optimizer steps taken so far; what is drawn at random depends on it alone.

        Raises:
            ValueError: if the layout is another one, or there are fewer than two rows.
        """
        refuse_too_few_rows(embeddings, num_ranks=num_ranks() if self.training else 1)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.terms(at_least_float32(embeddings), step=step)

    @abstractmethod
    def terms(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """The same, of embeddings (..., rows, dim) in float32 whose layout is right."""

    def joined(self, values: Tensor) -> Tensor:
        """Returns the sum of values (of any shape) over ranks, with gradient, where they join."""
        return sum_over_ranks(values) if self.training else values

    def num_joined_rows(self, embeddings: Tensor) -> Tensor:
        """Returns how many rows the joined batch has: ranks may have different numbers of them."""
        return self.joined(embeddings.new_tensor(float(embeddings.shape[-2])))


class ActionHead(nn.Module, ABC):
    """Says which action lies between two embeddings; it learns with what makes them."""

    @abstractmethod
    def build(self, dim: int, action_dim: int) -> None:
        """Makes the parameters, once the widths are known and before an optimizer is made.

        Args:
            dim: width of an embedding.
            action_dim: numbers in an action.
        """

    @abstractmethod
    def forward(self, before: Tensor, after: Tensor, actions: Tensor) -> LossTerms:
        """Compares the actions that two embeddings tell of with those that were taken.

        Args:
            before: (..., dim), embeddings of frames.
            after: (..., dim), embeddings of the frames that follow them.
            actions: (..., action_dim), normalised; each leads from its `before` to its `after`.

        Raises:
            ValueError: if the layouts do not fit each other.
            RuntimeError: if it is not built.
        """


def mean_terms(terms: Sequence[LossTerms]) -> LossTerms:
    """Returns the mean of the total and of every part, over terms of one objective."""
    parts = {
        name: torch.stack([term.parts[name] for term in terms]).mean() for name in terms[0].parts
    }
    return LossTerms(torch.stack([term.total for term in terms]).mean(), parts)


def at_least_float32(values: Tensor) -> Tensor:
    """Returns values (of any shape) with the digits that a loss needs, whatever autocast left."""
    return values if values.dtype == torch.float64 else values.float()


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


def refuse_negative_weights(*weights: float) -> None:
    """Raises if a weight of a loss is negative, infinite or not a number.

    Raises:
        ValueError: naming all of them.
    """
    if not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"weights must be finite and at least 0, got {weights}")


def refuse_too_few_rows(embeddings: Tensor, *, num_ranks: int) -> None:
    """Raises if embeddings (..., rows, dim) of every rank have no statistics over rows.

    Raises:
        ValueError: naming the shape.
    """
    shape = tuple(embeddings.shape)
    if embeddings.ndim < 2 or 0 in shape:
        raise ValueError(f"embeddings must be (..., rows, dim) and not empty, got {shape}")
    if embeddings.shape[-2] * num_ranks < 2:
        raise ValueError(
            f"a regularizer needs at least 2 rows to have statistics, got embeddings {shape}; "
            "raise the batch size"
        )
