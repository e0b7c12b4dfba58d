"""From surprises to verdicts: is the impossible video of a pair the more surprising one?

Relative accuracy asks pair by pair, AUROC over all videos at once. Pairs of one set share a scene,
so sets are drawn anew for the intervals, never pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from jepa.evaluation.scores import Interval, bootstrap_interval

ALL = "all"
CALIBRATION = 0.9


class PairScore(NamedTuple):
    """The surprise of the two videos of a pair.

    Attributes:
        concept: that the impossible video violates.
        set_name: of pairs that share a scene.
        possible: surprise of the possible video.
        impossible: surprise of the impossible one.
    """

    concept: str
    set_name: str
    possible: float
    impossible: float


class Calibrated(NamedTuple):
    """What a threshold does that lets 90 % of the possible videos pass.

    It is found on one half of the sets and used on the other half, and the reverse.

    Attributes:
        detected: share of the impossible videos above it.
        false_alarms: share of the possible videos above it; near 0.1 if the halves are alike.
    """

    detected: float
    false_alarms: float


class Verdict(NamedTuple):
    """How surprise tells impossible videos from possible ones.

    Attributes:
        num_pairs: that it was found on.
        num_sets: that these belong to.
        relative_accuracy: share of pairs whose impossible video is the more surprising one; equal
            surprises count half.
        auroc: probability that an impossible video is more surprising than a possible one.
        calibrated: None if there are too few sets.
    """

    num_pairs: int
    num_sets: int
    relative_accuracy: Interval
    auroc: Interval
    calibrated: Calibrated | None


def relative_accuracy(scores: np.ndarray) -> float:
    """Returns the share of pairs (pairs, 2: possible, impossible) in the right order."""
    difference = scores[:, 1] - scores[:, 0]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def auroc(scores: np.ndarray) -> float:
    """Returns the area under the ROC curve of pairs (pairs, 2: possible, impossible).

    It is the share of all combinations of an impossible and a possible video in the right order;
    ties count half (Mann and Whitney, 1947).
    """
    pairs = len(scores)
    ranks = rankdata(np.concatenate((scores[:, 0], scores[:, 1])))
    return float((ranks[pairs:].sum() - pairs * (pairs + 1) / 2) / pairs**2)


def calibrated(scores_of_sets: Sequence[np.ndarray], *, level: float = CALIBRATION) -> Calibrated:
    """Returns what a threshold does that was found on other sets.

    Args:
        scores_of_sets: (pairs, 2: possible, impossible) of each set.
        level: share of the possible videos that should pass, in (0, 1).

    Raises:
        ValueError: if there are fewer than 2 sets.
    """
    if len(scores_of_sets) < 2:
        raise ValueError(f"a threshold needs at least 2 sets, got {len(scores_of_sets)}")
    halves = [np.concatenate(scores_of_sets[first::2]) for first in (0, 1)]
    thresholds = [float(np.quantile(half[:, 0], level)) for half in halves]
    above = np.concatenate(
        [halves[0] > thresholds[1], halves[1] > thresholds[0]]
    )  # (pairs, 2) bool
    false_alarms, detected = above.mean(0).tolist()
    return Calibrated(detected, false_alarms)


def verdicts(
    pairs: Sequence[PairScore], *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, Verdict]:
    """Judges each concept, and all pairs together under the name "all".

    Args:
        pairs: at least one.
        num_resamples: how often sets are drawn anew for the intervals.
        seed: of these draws.

    Raises:
        ValueError: if there are no pairs, or a surprise is not a number.
    """
    if not pairs:
        raise ValueError("there is no pair to judge")
    if not np.isfinite([(pair.possible, pair.impossible) for pair in pairs]).all():
        raise ValueError("a surprise is not a finite number: the model's output is not")
    concepts = sorted({pair.concept for pair in pairs})
    groups = {concept: [p for p in pairs if p.concept == concept] for concept in concepts}
    groups[ALL] = list(pairs)
    return {
        name: _verdict(members, num_resamples=num_resamples, seed=seed)
        for name, members in groups.items()
    }


def _verdict(pairs: Sequence[PairScore], *, num_resamples: int, seed: int) -> Verdict:
    sets: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        sets.setdefault(pair.set_name, []).append((pair.possible, pair.impossible))
    scores = [np.array(rows) for rows in sets.values()]
    accuracy, area = (
        bootstrap_interval(scores, statistic, num_resamples=num_resamples, seed=seed)
        for statistic in (relative_accuracy, auroc)
    )
    threshold = calibrated(scores) if len(scores) > 1 else None
    return Verdict(len(pairs), len(scores), accuracy, area, threshold)
