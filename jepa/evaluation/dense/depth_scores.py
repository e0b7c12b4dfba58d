"""Errors of depths, as they are published: RMSE, absolute relative error, delta below 1.25."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DELTA = 1.25


class DepthScores(NamedTuple):
    """Of one picture or clip.

    Attributes:
        rmse: root of the mean squared error, in the unit of the depth.
        abs_rel: mean of |predicted - true| / true.
        delta1: share of pixels with max(predicted / true, true / predicted) < 1.25.
    """

    rmse: float
    abs_rel: float
    delta1: float


def depth_scores(predicted: np.ndarray, true: np.ndarray) -> DepthScores:
    """Compares depths (...) where the true one is known: pixels count alike.

    Args:
        predicted: above 0.
        true: above 0, NaN where unknown.

    Raises:
        ValueError: if shapes differ, nothing is known, or a prediction is not above 0.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} must have one shape")
    is_known = ~np.isnan(true)
    predicted, true = predicted[is_known].astype(np.float64), true[is_known].astype(np.float64)
    if not true.size:
        raise ValueError("no depth is known in this clip")
    if not (np.isfinite(predicted).all() and predicted.min() > 0):
        raise ValueError("predicted depths must be finite and above 0")
    ratio = np.maximum(predicted / true, true / predicted)
    return DepthScores(
        rmse=float(np.sqrt(((predicted - true) ** 2).mean())),
        abs_rel=float((np.abs(predicted - true) / true).mean()),
        delta1=float((ratio < DELTA).mean()),
    )


def median_scaled(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Returns predictions times the factor that makes medians agree: for depths without a unit."""
    is_known = ~np.isnan(true)
    return predicted * (np.median(true[is_known]) / np.median(predicted[is_known]))
