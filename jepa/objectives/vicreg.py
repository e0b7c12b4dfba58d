"""Keeps every dimension of the embeddings alive, and no two the same (VICReg)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.objectives.base import LossTerms, Regularizer, refuse_negative_weights


class VICReg(Regularizer):
    """Variance and covariance terms of VICReg (arXiv:2105.04906, Eq. 1 to 4).

    Variance: mean over dimensions of max(0, min_std - std). Covariance: squared covariances of
    different dimensions, summed and divided by dim. What the paper calls invariance is the
    prediction here.

    Args:
        std_weight: of the variance term, beside a prediction of weight 1: 16 in eb_jepa, 1 in the
            paper.
        cov_weight: of the covariance term, 0.04 in the paper. With the paper's weights half of the
            dimensions of a small predictive encoder die. Code that takes the mean over the
            dim * (dim - 1) pairs (eb_jepa) has weights that are dim - 1 times these.
        min_std: a dimension that varies as much costs nothing.
        eps: added to the variance under the root, which has a slope at 0 then.
    """

    def __init__(
        self,
        *,
        std_weight: float = 16.0,
        cov_weight: float = 1.0,
        min_std: float = 1.0,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        refuse_negative_weights(std_weight, cov_weight)
        if not (min_std > 0 and eps > 0):
            raise ValueError(f"min_std and eps must be positive, got {min_std} and {eps}")
        self.std_weight, self.cov_weight = std_weight, cov_weight
        self.min_std, self.eps = min_std, eps

    def terms(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """See `Regularizer.forward`."""
        covariance = self._covariance(embeddings)  # (..., dim, dim)
        variances = covariance.diagonal(dim1=-2, dim2=-1)  # (..., dim)
        variance = F.relu(self.min_std - (variances + self.eps).sqrt()).mean()
        others = covariance - torch.diag_embed(variances)
        correlated = others.square().sum((-2, -1)).mean() / embeddings.shape[-1]
        total = self.std_weight * variance + self.cov_weight * correlated
        return LossTerms(total, {"variance": variance, "covariance": correlated})

    def _covariance(self, embeddings: Tensor) -> Tensor:
        """Unbiased, of the joined batch; mean first, as a difference of squares loses digits."""
        rows = self.num_joined_rows(embeddings)
        centred = embeddings - self.joined(embeddings.sum(-2, keepdim=True)) / rows
        return self.joined(centred.transpose(-2, -1) @ centred) / (rows - 1)
