"""Scores of predictions, and how sure they are: intervals over videos, and over seeds.

A number without an interval says little on a few hundred videos. Rows of one video are alike, so
whole videos are drawn anew, never rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics import r2_score

NUM_RESAMPLES = 1000
LEVEL = 0.95
LEAST_USABLE_SHARE = 0.5  # of the resamples whose statistic is a number

Statistic = Callable[[np.ndarray], float]


class Interval(NamedTuple):
    """A score and the interval that holds it with some confidence.

    Attributes:
        value: the score itself.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    values_per_group: np.ndarray | Sequence[np.ndarray],
    statistic: Statistic = np.mean,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Returns a statistic and its percentile interval when whole groups are drawn anew.

    Args:
        values_per_group: (groups, ...), one row a group; or one array (rows, ...) of each group,
            see `rows_of_groups`. A group is a video: what is drawn together.
        statistic: a number from rows (rows, ...), those of all groups drawn one after the other.
        num_resamples: how often as many groups are drawn, with replacement.
        seed: of the draws.
        level: confidence, in (0, 1).

    Raises:
        ValueError: if there is no group, an argument is out of range, or the statistic is no
            number for half of the draws, as an AUROC is none where one class alone was drawn.
    """
    num_groups = len(values_per_group)
    if num_groups < 1:
        raise ValueError("an interval needs at least 1 group (video), got none")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    _refuse_wrong_level(level)
    take = _taker(values_per_group)
    draws = np.random.default_rng(seed).integers(0, num_groups, (num_resamples, num_groups))
    drawn = np.array([statistic(take(groups)) for groups in draws], dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < LEAST_USABLE_SHARE * num_resamples:
        raise ValueError(
            f"the statistic is a number for {len(drawn)} of {num_resamples} resamples of "
            f"{num_groups} groups only; score on more videos"
        )
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(statistic(take(np.arange(num_groups)))), float(low), float(high))


def seed_interval(values: Sequence[float] | np.ndarray, *, level: float = LEVEL) -> Interval:
    """Returns the mean over seeds and the interval of Student's t for it.

    Args:
        values: the score of each seed.
        level: confidence, in (0, 1).

    Raises:
        ValueError: if there are fewer than 2 seeds, which say nothing of the spread.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(
            f"an interval over seeds needs at least 2 scores, got shape {scores.shape}"
        )
    _refuse_wrong_level(level)
    mean, error = scores.mean(), stats.sem(scores)
    half = float(stats.t.ppf((1 + level) / 2, len(scores) - 1)) * float(error)
    return Interval(float(mean), float(mean - half), float(mean + half))


def rows_of_groups(values: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Returns the rows (rows, ...) of every group, in the order of the group's number.

    Args:
        values: (rows, ...).
        groups: (rows,), which group a row belongs to.

    Raises:
        ValueError: if there is not one group a row.
    """
    if groups.shape != values.shape[:1]:
        raise ValueError(f"{len(values)} rows have groups of shape {groups.shape}")
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(values[order], starts[1:])


def hits(scores: np.ndarray, labels: np.ndarray, *, top: int = 1) -> np.ndarray:
    """Returns where the label is among the classes with the highest scores: (rows,), bool.

    Args:
        scores: (rows, classes); a class that scores as high as the label's counts as higher, so
            that scores which are all alike know nothing, nor do those that are not numbers.
        labels: (rows,), class indices.
        top: how many classes may be named.

    Raises:
        ValueError: if the shapes do not fit, or labels or top are out of range.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"scores must be (rows, classes) and labels (rows,), got {scores.shape} and "
            f"{labels.shape}"
        )
    num_classes = scores.shape[1]
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels must be in [0, {num_classes - 1}], got {labels.min()} to {labels.max()}"
        )
    if not 1 <= top <= num_classes:
        raise ValueError(f"top must be in [1, {num_classes}], the number of classes, got {top}")
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)  # (rows, 1)
    not_lower = ~(scores < own)  # the label's own class is one of them; no number is lower
    return (not_lower.sum(1) <= top) & ~np.isnan(own[:, 0])


def accuracy(scores: np.ndarray, labels: np.ndarray, *, top: int = 1) -> float:
    """Returns the share of rows whose label is among the `top` highest scores; see `hits`."""
    return float(hits(scores, labels, top=top).mean())


def class_mean(row_hits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over classes of the share of hits: each class that occurs weighs the same.

    With the hits of top 1 it is the balanced accuracy, with those of top 5 the class-mean recall@5
    of EPIC-Kitchens.

    Args:
        row_hits: (rows,), see `hits`.
        labels: (rows,), class indices.
    """
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(classes, weights=row_hits) / counts).mean())


def r2(predicted: np.ndarray, true: np.ndarray) -> float:
    """Returns 1 - residual / variance, averaged over targets; 1 is exact, 0 the mean's.

    Args:
        predicted: (rows, targets), or (rows,).
        true: the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predictions {predicted.shape} and targets {true.shape} must agree")
    return float(r2_score(true, predicted, multioutput="uniform_average"))


def _taker(values_per_group: np.ndarray | Sequence[np.ndarray]) -> Callable[..., np.ndarray]:
    """Returns what makes the rows of drawn groups."""
    if isinstance(values_per_group, np.ndarray):
        return lambda groups: values_per_group[groups]
    sizes = np.array([len(values) for values in values_per_group])
    rows, ends = np.concatenate(list(values_per_group)), sizes.cumsum()
    places = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return lambda groups: rows[np.concatenate([places[group] for group in groups])]


def _refuse_wrong_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, as 0.95, got {level}")
