"""Predicted latents must be nearest to their own targets, and not to another frame's."""

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
from jepa.objectives.ranks import rows_of_all_ranks


class ContrastivePrediction(Objective):
    """InfoNCE of predictions: -log softmax over the batch's targets of -|predicted - target|^2.

    Contrastive predictive coding (van den Oord et al., arXiv:1807.03748, Eq. 4) with the squared
    distance in the place of the inner product, as in contrastive world models (Kipf et al.,
    arXiv:1911.12247): a planner's cost is a distance, and so is what is learned. Gradient flows
    into the targets; what a prediction is not is every other target of the batch, of other windows
    and of other times. No teacher, and no regularizer is needed against collapse: equal latents
    cost log(targets).

    What tells the frames of a batch apart is learned, and no more than that: where the place of an
    object does, its angle is left out. `TimeContrast` beside it asks for what stays.

    In training mode the batch is the joined one of all ranks, so every rank must come by; in
    evaluation mode it is the rank's own.

    Args:
        temperature: squared distances are divided by it; it sets the scale of the latents.
        shrink: weight of the targets' mean square, which else may grow without end.

    Raises:
        ValueError: if the temperature is not positive, or shrink is negative.
    """

    target_needs_gradient = True

    def __init__(self, *, temperature: float = 1.0, shrink: float = 1e-3) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        refuse_negative_weights(shrink)
        self.temperature, self.shrink = temperature, shrink

    def forward(self, predicted: Tensor, target: Tensor) -> LossTerms:
        """Compares.

        Args:
            predicted: (batch, ..., tokens, dim): the tokens of a latent are one vector.
            target: of the same shape.

        Returns:
            The loss, with parts "prediction", the InfoNCE, and "told_apart", the share of the
            predictions whose own target is the nearest.

        Raises:
            ValueError: if the shapes differ, or there is one target alone, which nothing tells
                apart.
        """
        refuse_different_shapes(predicted, target)
        rows = at_least_float32(predicted).flatten(-2).flatten(0, -2)  # (targets, tokens * dim)
        targets = at_least_float32(target).flatten(-2).flatten(0, -2)
        if self.training:
            rows, targets = rows_of_all_ranks(rows), rows_of_all_ranks(targets)
        if len(targets) < 2:
            raise ValueError(
                f"a contrast needs at least 2 targets, got predicted {tuple(predicted.shape)}; "
                "raise the batch size"
            )
        contrast, told_apart = contrasted(rows, targets, temperature=self.temperature)
        loss = contrast + self.shrink * targets.square().mean()
        return LossTerms(loss, {"prediction": contrast, "told_apart": told_apart})


def contrasted(rows: Tensor, targets: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Contrasts rows (n, dim) with targets (n, dim), of which the i-th is the i-th row's own.

    Returns:
        The mean of -log softmax(-|row - target|^2 / temperature), and the share of rows whose own
        target is the nearest; scalars.
    """
    with torch.autocast(rows.device.type, enabled=False):
        logits = -squared_distances(rows, targets) / temperature  # (n, n)
    own = torch.arange(len(rows), device=rows.device)
    is_nearest = logits.detach().argmax(1) == own
    return F.cross_entropy(logits, own), is_nearest.float().mean()


def squared_distances(rows: Tensor, targets: Tensor) -> Tensor:
    """Returns (n, m) squared distances of (n, dim) to (m, dim), with a gradient also at 0."""
    squares = rows.square().sum(1)[:, None] + targets.square().sum(1)
    return squares - 2 * rows @ targets.T
