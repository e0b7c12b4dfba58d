"""What every probe returns, and the scores and intervals of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.scores import (
    NUM_RESAMPLES,
    Interval,
    bootstrap_interval,
    class_mean,
    hits,
    r2,
    rows_of_groups,
)

TOP_FIVE_FROM = 10  # classes from which the top 5 says something


class Splits(NamedTuple):
    """Three parts of a data set, of which no two share a recording.

    Attributes:
        train: weights are fitted on it.
        validation: what is not fitted is chosen on it: learning rate, penalty, neighbours.
        test: nothing is fitted or chosen on it.
    """

    train: FeatureSet
    validation: FeatureSet
    test: FeatureSet


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answers for the test split, and how it was chosen.

    Attributes:
        predicted: (samples, classes) probabilities of the test split, or (samples, targets) the
            numbers themselves.
        validation_score: of the chosen setting on the validation split: accuracy, or R2. It is the
            best of all that were tried, and so a little too good.
        chosen: the setting chosen there.
        tried: every setting with its validation score, in the order tried.
        probe: what was fitted, as far as there is a module to save.
    """

    predicted: np.ndarray
    validation_score: float
    chosen: Mapping[str, float]
    tried: list[dict[str, float]] = field(default_factory=list)
    probe: Any = None


def refuse_unlike(splits: Splits) -> None:
    """Raises ValueError if the splits are not of one encoder and one question."""
    train = splits.train
    for name in ("validation", "test"):
        other = getattr(splits, name)
        shapes = (train.features.shape[1:], other.features.shape[1:])
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"features are (layers, tokens, dim) {shapes[0]} to train on and {shapes[1]} in "
                f"{name}; take both from one encoder with the same options"
            )
        if _classes(train) != _classes(other) or train.labels.shape[1:] != other.labels.shape[1:]:
            raise ValueError(
                f"labels differ: {_described(train)} to train on, {_described(other)} in {name}"
            )
        if train.table.shape[2] != other.table.shape[2]:
            raise ValueError(
                f"{train.table.shape[2]} clips of a sample to train on and {other.table.shape[2]} "
                f"in {name}; take as many"
            )
    if train.classes is not None and len(np.unique(train.labels)) < 2:
        raise ValueError(f"a probe needs at least 2 classes to train on, got {_described(train)}")


def main_score(predicted: np.ndarray, data: FeatureSet) -> float:
    """Returns the accuracy of (samples, classes), or R2 of (samples, targets); see `scores`."""
    if data.classes is not None:
        return float(hits(predicted, data.labels).mean())
    return r2(predicted, data.labels) if np.isfinite(predicted).all() else -np.inf


def intervals(
    predicted: np.ndarray,
    data: FeatureSet,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns every score with its interval, the main one first; recordings are drawn anew.

    Args:
        predicted: (samples, classes), or (samples, targets).
        data: the split that was predicted.
        num_resamples: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.

    Returns:
        "top-1", "top-5" where there are `TOP_FIVE_FROM` classes, and "class mean"; or "R2" and
        that of every target by its name.
    """
    rows, statistics = _statistics(predicted, data)
    groups = rows_of_groups(rows, data.recordings)
    return {
        name: bootstrap_interval(groups, statistic, num_resamples=num_resamples, seed=seed)
        for name, statistic in statistics.items()
    }


def gain(
    predicted: np.ndarray,
    baseline: np.ndarray,
    data: FeatureSet,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns by how much the main score exceeds a baseline's on the same recordings.

    Both are scored on each draw of recordings, so what makes a video hard for both cancels. If the
    interval is above 0, the gain is not one of the test videos that happened to be drawn.
    """
    pairs = [_statistics(answers, data) for answers in (predicted, baseline)]
    statistic = next(iter(pairs[0][1].values()))
    width = pairs[0][0].shape[1]
    groups = rows_of_groups(np.concatenate([rows for rows, _ in pairs], axis=1), data.recordings)
    return bootstrap_interval(
        groups,
        lambda rows: statistic(rows[:, :width]) - statistic(rows[:, width:]),
        num_resamples=num_resamples,
        seed=seed,
    )


def chance(train: FeatureSet, test: FeatureSet) -> np.ndarray:
    """Returns the answers that use no feature: the training shares of classes, or the mean."""
    if train.classes is not None:
        answer = np.bincount(train.labels, minlength=len(train.classes)) / train.num_samples
        answer = answer - 1e-9 * np.arange(len(answer))  # of equally frequent ones the first
    else:
        answer = train.labels.mean(0)
    return np.broadcast_to(answer, (test.num_samples, len(answer)))


def _statistics(
    predicted: np.ndarray, data: FeatureSet
) -> tuple[np.ndarray, dict[str, Callable[[np.ndarray], float]]]:
    """Returns one row a sample, of what can be drawn anew, and the scores of such rows."""
    if data.classes is None:
        width = data.labels.shape[1]
        names = data.targets or [f"target {index}" for index in range(width)]
        of_all = {"R2": lambda rows: r2(rows[:, :width], rows[:, width:])}
        of_each = {
            f"R2 of {name}": lambda rows, i=i: r2(rows[:, i], rows[:, width + i])
            for i, name in enumerate(names)
        }
        joined = np.concatenate((predicted, data.labels), axis=1).astype(np.float64)
        return joined, of_all | of_each if width > 1 else of_all
    tops = [1, 5] if len(data.classes) >= TOP_FIVE_FROM else [1]
    columns = [hits(predicted, data.labels, top=top) for top in tops]
    of_top = {
        f"top-{top}": lambda rows, i=i: float(rows[:, i].mean()) for i, top in enumerate(tops)
    }
    of_classes = {"class mean": lambda rows: class_mean(rows[:, 0], rows[:, -1])}
    return np.stack([*columns, data.labels], axis=1).astype(np.float64), of_top | of_classes


def _classes(data: FeatureSet) -> list[str] | None:
    return None if data.classes is None else list(data.classes)


def _described(data: FeatureSet) -> str:
    if data.classes is None:
        return f"{data.labels.shape[1]} numbers"
    present = [data.classes[label] for label in np.unique(data.labels)]
    return f"{len(data.classes)} classes, of which {len(present)} occur ({present[:3]})"
