"""Does the predictor say more than the mean? Its latents beside shuffled and mean targets."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PredictionScores(NamedTuple):
    """How good predictions are, beside what needs no predictor; scalars.

    Attributes:
        cosine: mean cosine of prediction and target, in [-1, 1].
        cosine_shuffled: the same with the target of another clip at the same place.
        cosine_mean: the same of a target and the mean of the other clips' targets at its place.
        gain_over_mean: 1 - squared error of the prediction over that of this mean, at most 1: 0 if
            the predictor does no more than the mean, below 0 if it does less.
    """

    cosine: Tensor
    cosine_shuffled: Tensor
    cosine_mean: Tensor
    gain_over_mean: Tensor


@torch.no_grad()
def prediction_scores(predicted: Tensor, target: Tensor) -> PredictionScores:
    """Compares predictions with what knows the place but not the clip.

    The mean is that of the other clips: one in which the clip itself had a part would know it.

    Args:
        predicted: (clips, places, dim).
        target: (clips, places, dim): a place is the same in every clip.

    Raises:
        ValueError: if the shapes differ, or there is a single clip.
    """
    if predicted.shape != target.shape or predicted.ndim != 3 or len(target) < 2:
        raise ValueError(
            "predicted and target must both be (clips, places, dim) of at least 2 clips, got "
            f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    predicted, target = predicted.float(), target.float()
    mean = (target.sum(0) - target) / (len(target) - 1)
    error, of_mean = ((guess - target).square().mean() for guess in (predicted, mean))
    return PredictionScores(
        cosine=_cosine(predicted, target),
        cosine_shuffled=_cosine(predicted, target.roll(1, dims=0)),
        cosine_mean=_cosine(mean, target),
        gain_over_mean=1 - error / of_mean.clamp_min(1e-12),
    )


@torch.no_grad()
def feature_lag(target: Tensor, online: Tensor) -> Tensor:
    """Returns 1 - the mean cosine of tokens (..., dim) of target and online encoder, in [0, 2]."""
    return 1 - _cosine(target.float(), online.float())


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first, second, dim=-1).mean()
