"""Zero mean and unit variance over the batch of all ranks: batch norm without a learned scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa.objectives.ranks import sum_over_ranks


class Standardization(nn.Module):
    """Standardises each feature over all rows (batch norm, arXiv:1502.03167, without scale).

    In training by the statistics of the joined batch of all ranks, with exact gradients once DDP
    has averaged them, so every rank must come by; in evaluation mode by their running average.
    (torch's own SyncBatchNorm is for GPUs only.) A transformer ends with a layer norm, after which
    the mean over a frame hardly differs between frames: without this step regularizers have next to
    no gradient, and SIGReg never leaves the collapse that training begins in.

    Args:
        num_features: width of a row.
        momentum: share of the newest statistics in the running average, in (0, 1].
        eps: added to the variance.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, num_features: int, *, momentum: float = 0.1, eps: float = 1e-6) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("variance", torch.ones(num_features))

    def forward(self, features: Tensor) -> Tensor:
        """Standardises features (..., num_features), in float32 also under autocast."""
        features = features.float()
        mean, variance = self.mean.float(), self.variance.float()
        if self.training:
            mean, variance = self._statistics(features.flatten(0, -2))
            with torch.no_grad():
                self._follow(self.mean, mean)
                self._follow(self.variance, variance)
        return (features - mean) * (variance + self.eps).rsqrt()

    def _follow(self, average: Tensor, newest: Tensor) -> None:
        """Moves a running average; what is no number would stay in it for ever, so it is left."""
        newest = newest.to(average)
        average.lerp_(torch.where(newest.isfinite(), newest, average), self.momentum)

    def _statistics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the joined rows; mean first, as a difference of squares is inexact.

        Ranks may have different numbers of rows.
        """
        count = sum_over_ranks(rows.new_tensor(float(len(rows))))
        mean = sum_over_ranks(rows.sum(0)) / count
        return mean, sum_over_ranks((rows - mean).square().sum(0)) / count
