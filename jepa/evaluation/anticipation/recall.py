"""Class-mean recall@5 of anticipated actions, with intervals, and which probe is the best.

Classes count alike, however rare, and only those that occur in what is scored: as EK100 does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepa.evaluation.anticipation.heads import TASKS
from jepa.evaluation.scores import (
    NUM_RESAMPLES,
    Interval,
    accuracy,
    bootstrap_interval,
    class_mean,
    hits,
    rows_of_groups,
)

TOP = 5
Logits = Mapping[str, np.ndarray]  # by task, (rows, classes)


@dataclass(frozen=True)
class TaskScore:
    """How well verbs, nouns or actions are anticipated.

    Attributes:
        recall: class-mean recall@top.
        recall_at_1: class-mean recall@1.
        accuracy: share of rows whose first guess is right.
        top: guesses that `recall` allows: 5, or all classes but one where there are fewer.
        num_classes: that occur in what is scored.
    """

    recall: Interval
    recall_at_1: Interval
    accuracy: float
    top: int
    num_classes: int

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers."""
        intervals = {"recall": self.recall, "recall_at_1": self.recall_at_1}
        return {
            **{name: interval._asdict() for name, interval in intervals.items()},
            "accuracy": self.accuracy,
            "top": self.top,
            "num_classes": self.num_classes,
        }


def score(
    logits: Logits,
    labels: np.ndarray,
    videos: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, TaskScore]:
    """Scores verbs, nouns and actions, with intervals over videos.

    Args:
        logits: by task, (rows, classes); any scores, the higher the likelier.
        labels: (rows, 3), in the order of `TASKS`.
        videos: (rows,), which video a row is of: videos are drawn anew, not rows.
        num_resamples: of the intervals.
        seed: of the draws.
    """
    scores = {}
    for index, task in enumerate(TASKS):
        own, top = labels[:, index], guesses(logits[task].shape[1])
        intervals = []
        for allowed in (top, 1):
            rows = np.stack([hits(logits[task], own, top=allowed), own], axis=1)
            intervals.append(
                bootstrap_interval(
                    rows_of_groups(rows, videos),
                    lambda drawn: class_mean(drawn[:, 0], drawn[:, 1]),
                    num_resamples=num_resamples,
                    seed=seed,
                )
            )
        scores[task] = TaskScore(
            recall=intervals[0],
            recall_at_1=intervals[1],
            accuracy=accuracy(logits[task], own),
            top=top,
            num_classes=len(np.unique(own)),
        )
    return scores


def class_mean_recall(scores: np.ndarray, labels: np.ndarray, *, top: int = TOP) -> float:
    """Returns the mean over classes of the share of rows whose class is among the `top` highest.

    Args:
        scores: (rows, classes).
        labels: (rows,), class indices; classes that do not occur do not count.
        top: guesses allowed.
    """
    return class_mean(hits(scores, labels, top=top), labels)


def guesses(num_classes: int) -> int:
    """Returns how many guesses recall allows: 5, or fewer where 5 could not miss."""
    return max(1, min(TOP, num_classes - 1))


def choose_probe(logits_of_probes: Sequence[Logits], labels: np.ndarray) -> int:
    """Returns the index of the probe that anticipates actions best, to be chosen on validation.

    Equals are told apart by verbs and nouns, then the first is taken.
    """

    def quality(logits: Logits) -> tuple[float, float]:
        verb, noun, action = (recall_of(logits, labels, task) for task in TASKS)
        return action, verb + noun

    qualities = [quality(logits) for logits in logits_of_probes]
    return max(range(len(qualities)), key=lambda index: (qualities[index], -index))


def recall_of(logits: Logits, labels: np.ndarray, task: str) -> float:
    """Returns the class-mean recall of one task, with as many guesses as `guesses` allows."""
    own = labels[:, TASKS.index(task)]
    return class_mean_recall(logits[task], own, top=guesses(logits[task].shape[1]))


def official_maxima(logits_of_probes: Sequence[Logits], labels: np.ndarray) -> dict[str, float]:
    """Returns the best recall of any probe, for verb, noun and action each on its own.

    What the released evaluation reports, on the rows that it chooses by: three numbers that no
    single probe need have, and higher than any would have on fresh data.
    """
    return {
        task: max(recall_of(logits, labels, task) for logits in logits_of_probes) for task in TASKS
    }


def always_the_most_frequent(
    training_labels: np.ndarray, num_classes: Mapping[str, int], num_rows: int
) -> Logits:
    """Returns scores that name the classes in the order of their frequency, whatever is seen.

    Args:
        training_labels: (rows, 3), whose frequencies count; equals go by their index.
        num_classes: of each task.
        num_rows: how many rows to score.
    """
    logits = {}
    for index, task in enumerate(TASKS):
        counts = np.bincount(training_labels[:, index], minlength=num_classes[task])
        scores = np.empty(num_classes[task])
        scores[np.argsort(-counts, kind="stable")] = -np.arange(num_classes[task])
        logits[task] = np.broadcast_to(scores, (num_rows, num_classes[task]))
    return logits


def certain(labels: np.ndarray, num_classes: Mapping[str, int]) -> Logits:
    """Returns scores of a guesser that names one class a row and knows nothing of the others.

    Args:
        labels: (rows, 3), what it names.
        num_classes: of each task.
    """
    return {task: np.eye(num_classes[task])[labels[:, index]] for index, task in enumerate(TASKS)}
