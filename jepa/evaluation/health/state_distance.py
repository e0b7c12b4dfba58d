"""Does latent distance follow the distance of states, and how far?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jepa.evaluation.scores import Interval, bootstrap_interval, rows_of_groups

NUM_BINS = 8
NUM_RESAMPLES = 100
LEAST_PAIRS = 3  # a rank correlation of fewer says nothing


class StateDistance(NamedTuple):
    """How latent distance follows state distance.

    Attributes:
        radius: (bins,), largest state distance of each bin; bins hold equally many pairs.
        latent: (bins,), mean latent distance of the pairs of each bin.
        correlation: (bins,), Spearman's rank correlation of all pairs up to the radius, with its
            interval over trajectories.
        monotonic_radius: the radius up to which every bin's mean latent distance is larger than
            that of the bin before; 0 if the second one is not. Goals further off than that look as
            near as nearer ones.
        monotonic_share: share of the pairs that are no further apart, in [0, 1].
    """

    radius: list[float]
    latent: list[float]
    correlation: list[Interval]
    monotonic_radius: float
    monotonic_share: float


def state_distance(
    latent: np.ndarray,
    states: np.ndarray,
    trajectories: np.ndarray,
    *,
    num_bins: int = NUM_BINS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> StateDistance:
    """Compares the distances of all pairs of frames.

    Args:
        latent: (frames, frames), latent distances.
        states: (frames, state_dim); each column counts in units of its standard deviation.
        trajectories: (frames,), which trajectory a frame is of: whole ones are drawn anew for the
            intervals.
        num_bins: of state distance.
        num_resamples: draws of the intervals.
        seed: of the draws.

    Raises:
        ValueError: if the shapes do not fit, or there are too few pairs for the bins.
    """
    num_frames = len(states)
    if latent.shape != (num_frames, num_frames) or trajectories.shape != (num_frames,):
        raise ValueError(
            f"{num_frames} states need latent distances ({num_frames}, {num_frames}) and as many "
            f"trajectories, got {latent.shape} and {trajectories.shape}"
        )
    between = _distances(states)
    first, second = np.triu_indices(num_frames, k=1)
    if len(first) < num_bins * LEAST_PAIRS:
        raise ValueError(f"{len(first)} pairs of frames are too few for {num_bins} bins")
    far = between[first, second]
    radius = np.quantile(far, np.arange(1, num_bins + 1) / num_bins)
    means = _bin_means(far, latent[first, second], radius)
    num_rising = int((np.diff(means) > 0).cumprod().sum())
    reach = float(radius[num_rising]) if num_rising else 0.0
    groups = rows_of_groups(np.arange(num_frames), trajectories)
    correlation = [
        _interval(latent, between, limit, groups, num_resamples=num_resamples, seed=seed)
        for limit in radius
    ]
    share = float((far <= reach).mean()) if num_rising else 0.0
    return StateDistance(radius.tolist(), means.tolist(), correlation, reach, share)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two arrays (pairs,); not a number without an order."""
    if len(first) < LEAST_PAIRS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    result: Any = stats.spearmanr(first, second)
    return float(result.statistic)


def _interval(
    latent: np.ndarray,
    between: np.ndarray,
    limit: float,
    groups: list[np.ndarray],
    *,
    num_resamples: int,
    seed: int,
) -> Interval:
    """Rank correlation of the pairs that are at most `limit` apart, drawing trajectories anew."""

    def statistic(frames: np.ndarray) -> float:
        first, second = np.triu_indices(len(frames), k=1)
        first, second = frames[first], frames[second]
        # A frame that was drawn twice is no pair with itself.
        kept = (first != second) & (between[first, second] <= limit)
        return rank_correlation(between[first, second][kept], latent[first, second][kept])

    value = statistic(np.concatenate(groups))
    if not np.isfinite(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap_interval(groups, statistic, num_resamples=num_resamples, seed=seed)


def _bin_means(far: np.ndarray, latent: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Mean latent distance of the pairs up to each radius and beyond the one before: (bins,)."""
    bins = np.minimum(np.searchsorted(radius, far), len(radius) - 1)
    counts = np.bincount(bins, minlength=len(radius))
    sums = np.bincount(bins, weights=latent, minlength=len(radius))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _distances(states: np.ndarray) -> np.ndarray:
    """Euclidean distances (frames, frames) in units of each column's standard deviation."""
    std = states.std(0)
    scaled = states / np.where(std > 0, std, 1.0)
    return np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
