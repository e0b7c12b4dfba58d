"""Samples that could not be used: counted, named, and not too many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipelines.batch import SkippedSample

logger = logging.getLogger(__name__)

MAX_LISTED = 20  # samples named in the error that ends a run


class TooManySkippedError(ValueError):
    """More samples were skipped than the run allows."""


class NoUsableSampleError(ValueError):
    """Not one sample of the set can be used."""


class SkipCounter:
    """Counts skipped samples in the main process, and stops a run that skips too many.

    Args:
        max_skipped_fraction: the greatest allowed skipped / seen.
        grace_samples: so many samples are seen before the fraction is looked at.

    Attributes:
        num_seen: samples asked for, used or skipped.
        num_skipped: samples skipped.
        reasons: reason -> how often.
        keys: key -> how often.
        reason_of_key: key -> why it was skipped first.
        left_out: samples that the index left out and no one can ask for: key -> why.
    """

    def __init__(self, max_skipped_fraction: float = 0.1, *, grace_samples: int = 100) -> None:
        if not 0 <= max_skipped_fraction <= 1:
            raise ValueError(f"max_skipped_fraction must be in [0, 1], got {max_skipped_fraction}")
        self.max_skipped_fraction = max_skipped_fraction
        self.grace_samples = grace_samples
        self.num_seen = 0
        self.num_skipped = 0
        self.reasons: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.reason_of_key: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def leave_out(self, damaged: Mapping[str, str], *, num_usable: int) -> None:
        """Takes what the index of a set has left out; it may be told of again after a resume.

        Args:
            damaged: key -> why.
            num_usable: samples of the set that are left.

        Raises:
            TooManySkippedError: if they are too large a part of the set.
        """
        self.left_out.update(damaged)
        num_samples = len(damaged) + num_usable
        if len(damaged) > self.max_skipped_fraction * num_samples:
            raise TooManySkippedError(
                f"{len(damaged)} of {num_samples} samples cannot be used, more than "
                f"max_skipped_fraction={self.max_skipped_fraction:g}: {_listed(damaged)}"
            )

    def count(self, num_used: int, skipped: Sequence[SkippedSample]) -> None:
        """Takes one batch: how many samples it holds, and which were skipped to fill it.

        Raises:
            TooManySkippedError: if the fraction is exceeded.
        """
        self.num_seen += num_used + len(skipped)
        self.num_skipped += len(skipped)
        for key, reason in skipped:
            if key not in self.keys:
                logger.warning("skipped sample '%s': %s", key, reason)
            self.keys[key] += 1
            self.reason_of_key.setdefault(key, reason)
            self.reasons[reason] += 1
        if self.num_seen >= self.grace_samples and self.fraction > self.max_skipped_fraction:
            raise TooManySkippedError(self._complaint())

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts as plain values."""
        return {
            "num_seen": self.num_seen,
            "num_skipped": self.num_skipped,
            "reasons": dict(self.reasons),
            "keys": dict(self.keys),
            "reason_of_key": dict(self.reason_of_key),
        }

    def add_state(self, state: dict[str, Any]) -> None:
        """Adds counts of an earlier run."""
        self.num_seen += state["num_seen"]
        self.num_skipped += state["num_skipped"]
        self.reasons.update(state["reasons"])
        self.keys.update(state["keys"])
        self.reason_of_key = {**self.reason_of_key, **state["reason_of_key"]}

    @property
    def fraction(self) -> float:
        """Returns skipped / seen, 0 before the first sample."""
        return self.num_skipped / self.num_seen if self.num_seen else 0.0

    def _complaint(self) -> str:
        return (
            f"{self.num_skipped} of {self.num_seen} samples skipped ({len(self.keys)} different "
            f"ones), more than max_skipped_fraction={self.max_skipped_fraction:g}: "
            f"{_listed(self.reason_of_key)}"
        )


def _listed(reason_of_key: Mapping[str, str]) -> str:
    listed = [f"'{key}': {reason}" for key, reason in reason_of_key.items()]
    rest = len(listed) - MAX_LISTED
    more = f"; and {rest} more, each named in the log" if rest > 0 else ""
    return f"{'; '.join(listed[:MAX_LISTED])}{more}"


def nothing_usable(num_tried: int, num_samples: int, first: SkippedSample) -> str:
    """Says that every sample that was tried failed, and how the first one did."""
    return (
        f"no usable video: {num_tried} of {num_samples} samples skipped; "
        f"first: key '{first.key}': {first.reason}"
    )
