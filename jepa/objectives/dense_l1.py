"""Distance at hidden and at visible places, over several levels (V-JEPA 2.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.objectives.base import (
    LossTerms,
    Objective,
    at_least_float32,
    refuse_different_shapes,
    refuse_negative_weights,
)


class DenseL1(Objective):
    """mean |predicted - target| of all tokens and levels (V-JEPA 2.1, arXiv:2603.14482).

    Each level of the target is layer-normed by itself, without learned scale; predictions are not
    normed. Hidden places count fully (`forward`), visible ones (`context`) by how near they are to
    something hidden, and not in the first steps: from the start on they cost accuracy on actions.

    Args:
        num_levels: how many latents lie side by side in the last axis.
        context_weight: lambda, of visible places, in the end: 0.5 in the released configs, 0.7 for
            images in the paper.
        warmup_start_step: the optimizer step up to which the weight is 0.
        warmup_end_step: the optimizer step from which the weight is whole; it rises linearly
            between the two. Both 0: whole from the start, as in the paper's cooldown.
        weighted_by_distance: weigh a visible token by 1 / sqrt(its distance, in tokens, to the
            nearest hidden one of its clip). False: by 1, as in the paper's cooldown.
    """

    def __init__(
        self,
        *,
        num_levels: int = 4,
        context_weight: float = 0.5,
        warmup_start_step: int = 15_000,
        warmup_end_step: int = 30_000,
        weighted_by_distance: bool = True,
    ) -> None:
        super().__init__()
        refuse_negative_weights(context_weight)
        if num_levels < 1:
            raise ValueError(f"num_levels must be at least 1, got {num_levels}")
        if not 0 <= warmup_start_step <= warmup_end_step:
            raise ValueError(
                "the warm-up of the context term must begin at 0 or later and not after its end, "
                f"got warmup_start_step={warmup_start_step} and warmup_end_step={warmup_end_step}"
            )
        self.num_levels, self.context_weight = num_levels, context_weight
        self.warmup_start_step, self.warmup_end_step = warmup_start_step, warmup_end_step
        self.weighted_by_distance = weighted_by_distance

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """Compares hidden places.

        Args:
            predicted: (batch, targets, levels * dim).
            target: (batch, targets, levels * dim), no gradient flows into it.

        Raises:
            ValueError: if the shapes differ, or the last axis does not hold `num_levels` levels.
        """
        loss = self._errors(predicted, target).mean()
        return LossTerms(loss, {"prediction": loss})

    def context(
        self,
        predicted: Tensor,
        target: Tensor,
        *,
        context_ids: Tensor,
        target_ids: Tensor,
        grid: tuple[int, int, int],
        step: int,
    ) -> LossTerms:
        """Compares visible places.

        Args:
            predicted: (batch, context, levels * dim).
            target: (batch, context, levels * dim), no gradient flows into it.
            context_ids: (batch, context), where these tokens are.
            target_ids: (batch, targets), which places were hidden from what predicted them.
            grid: (time, height, width) of a clip in tokens.
            step: optimizer steps taken so far.

        Returns:
            The part `context` without, the total with the weight of this step: 0 times it, not
            nothing, before the warm-up, so that all parameters have a gradient at every step.

        Raises:
            ValueError: if shapes do not fit, or nothing is hidden.
        """
        errors = self._errors(predicted, target).mean(-1)  # (batch, context)
        _refuse_misplaced(context_ids, target_ids, errors)
        if self.weighted_by_distance:
            distances = distances_to_targets(context_ids, target_ids, grid)
            errors = errors * distances.rsqrt()
        loss = errors.mean()
        return LossTerms(self.context_weight_at(step) * loss, {"context": loss})

    def context_weight_at(self, step: int) -> float:
        """Returns lambda after a number of optimizer steps."""
        start, end = self.warmup_start_step, self.warmup_end_step
        if step < start:
            return 0.0
        return self.context_weight * ((step - start) / (end - start) if step < end else 1.0)

    def _errors(self, predicted: Tensor, target: Tensor) -> Tensor:
        """|predicted - layer_norm(target)|, in the layout of both."""
        refuse_different_shapes(predicted, target)
        if target.shape[-1] % self.num_levels:
            raise ValueError(
                f"{target.shape[-1]} channels are not {self.num_levels} levels of equal width; "
                "num_levels must be the encoder's"
            )
        levels = at_least_float32(target.detach()).unflatten(-1, (self.num_levels, -1))
        return (predicted - F.layer_norm(levels, levels.shape[-1:]).flatten(-2)).abs()


def distances_to_targets(
    context_ids: Tensor, target_ids: Tensor, grid: tuple[int, int, int]
) -> Tensor:
    """Returns how far each context token is from the nearest target token of its clip.

    By an exact distance transform, one axis after the other (a squared distance is a sum over
    axes): the work is places * (time + height + width) a clip, not context * targets.

    Args:
        context_ids: (batch, context), flat over the grid.
        target_ids: (batch, targets).
        grid: (time, height, width) in tokens.

    Returns:
        (batch, context) float32, Euclidean, in tokens; at least 1, also for a token that is a
        target itself.
    """
    time, height, width = grid
    squared = torch.full(
        (len(target_ids), time * height * width), float("inf"), device=target_ids.device
    )
    squared = squared.scatter(1, target_ids, 0.0).unflatten(1, grid)
    for axis in (1, 2, 3):
        squared = _nearest_along(squared, axis)
    return squared.flatten(1).gather(1, context_ids).clamp_min(1.0).sqrt()


def _nearest_along(squared: Tensor, axis: int) -> Tensor:
    """For each place the minimum of squared[there] + (here - there)^2 over an axis."""
    places = torch.arange(squared.shape[axis], device=squared.device)
    steps = (places[:, None] - places).square().float()  # (here, there)
    lines = squared.movedim(axis, -1).unsqueeze(-2)  # (..., 1, there)
    return (lines + steps).amin(-1).movedim(-1, axis)


def _refuse_misplaced(context_ids: Tensor, target_ids: Tensor, errors: Tensor) -> None:
    if context_ids.shape != errors.shape:
        raise ValueError(
            f"context_ids {tuple(context_ids.shape)} must name the places of the predicted tokens "
            f"{tuple(errors.shape)}, (batch, context)"
        )
    if target_ids.ndim != 2 or len(target_ids) != len(context_ids) or not target_ids.shape[1]:
        raise ValueError(
            f"target_ids must be (batch, targets) with batch {len(context_ids)} and at least one "
            f"target, got {tuple(target_ids.shape)}"
        )
