"""What a measurement comes to, and how sure it is: pass, fail, or not measurable, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from jepa.evaluation.scores import Interval, bootstrap_interval

Outcome = Literal["pass", "fail", "not measurable"]
LEAST_EPISODES = 2  # an interval over one episode says nothing
TINY = 1e-12  # stands for an error of zero below a fraction


class Verdict(NamedTuple):
    """What a property comes to.

    Attributes:
        outcome: "pass", "fail" or "not measurable".
        reason: the rule and what was seen, in one line.
    """

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class NotMeasured:
    """Stands for the numbers of a property where there are none."""

    verdict: Verdict

    @classmethod
    def because(cls, reason: str) -> NotMeasured:
        """Returns it with the reason."""
        return cls(Verdict("not measurable", reason))


def mean_interval(per_episode: np.ndarray, *, seed: int) -> Interval:
    """Returns the mean over episodes (episodes,), with its interval."""
    return bootstrap_interval(np.asarray(per_episode, dtype=np.float64), seed=seed)


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, *, seed: int) -> Interval:
    """Returns the sum of some numbers over that of others, with its interval.

    Both are of the same episodes, which are drawn together: what is hard is hard for both.

    Args:
        numerators: (episodes,).
        denominators: (episodes,), at least 0.
        seed: of the resamples.
    """
    pairs = np.stack([numerators, denominators], 1).astype(np.float64)
    return bootstrap_interval(pairs, _ratio_of_sums, seed=seed)


def ratio_between_sets(numerators: np.ndarray, denominators: np.ndarray, *, seed: int) -> Interval:
    """Returns the mean of one set of episodes over that of another set, with its interval.

    Args:
        numerators: (episodes,) of one set.
        denominators: (other episodes,) of the other.
        seed: of the resamples; the share of either set in a resample varies, too.
    """
    values = np.concatenate([numerators, denominators]).astype(np.float64)
    is_first = np.arange(len(values)) < len(numerators)
    rows = np.stack([values, is_first], 1)
    return bootstrap_interval(rows, _ratio_of_means, seed=seed)


def intervals_of(values: tuple[Interval, ...]) -> np.ndarray:
    """Returns intervals as (values, 3): the value, its lower and its upper end."""
    return np.array([tuple(value) for value in values], dtype=np.float64).reshape(-1, 3)


def _ratio_of_sums(pairs: np.ndarray) -> float:
    return float(pairs[:, 0].sum() / max(pairs[:, 1].sum(), TINY))


def _ratio_of_means(rows: np.ndarray) -> float:
    is_first = rows[:, 1] > 0
    if is_first.all() or not is_first.any():  # drawn from one set alone: no number
        return float("nan")
    return float(rows[is_first, 0].mean() / max(rows[~is_first, 0].mean(), TINY))
