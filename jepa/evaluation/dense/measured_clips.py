"""What the tasks measure with: labelled clips, and measurements of each of them.

The interval of a score is over clips, since pixels of one are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jepa.evaluation.scores import Interval, bootstrap_interval


class LabelledClip(Protocol):
    """What is asked of a clip: `data_pipelines.dense_labels.DenseClip` says what its parts mean."""

    key: str
    frames: np.ndarray
    object_ids: np.ndarray | None
    class_names: tuple[str, ...]
    depth: np.ndarray | None
    depth_unit: str
    tracks: np.ndarray | None
    is_visible: np.ndarray | None

    @property
    def classes(self) -> np.ndarray | None:
        """Classes of pixels."""
        ...

    @property
    def query_frames(self) -> np.ndarray:
        """Where points are seen first."""
        ...


Clips = Iterable[LabelledClip]  # may be gone through several times; holds one clip at a time


@dataclass(frozen=True)
class Measurements:
    """What was measured on each clip, and how scores come of it.

    Attributes:
        keys: of the clips.
        values: one row per clip; or a list with an array (rows, ...) of each clip.
        statistics: name of a score to the function of rows that gives it.
    """

    keys: tuple[str, ...]
    values: np.ndarray | list[np.ndarray]
    statistics: dict[str, Callable[[np.ndarray], float]]

    def intervals(self, *, num_resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
        """Returns every score with its interval over clips."""
        return {
            name: bootstrap_interval(self.values, statistic, num_resamples=num_resamples, seed=seed)
            for name, statistic in self.statistics.items()
        }


def chosen_clips(source: Any, indices: Sequence[int]) -> ChosenClips:  # noqa: ANN401
    """Returns some clips of a source, each read when its turn comes, as often as asked.

    Args:
        source: has `clip(index)`.
        indices: which.
    """
    return ChosenClips(source, tuple(indices))


class ChosenClips:
    """Clips of a source by number; see `chosen_clips`."""

    def __init__(self, source: Any, indices: tuple[int, ...]) -> None:  # noqa: ANN401
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[LabelledClip]:
        return (self._source.clip(index) for index in self._indices)


def column_means(names: Sequence[str]) -> dict[str, Callable[[np.ndarray], float]]:
    """Returns for each column the mean over the clips for which it is a number."""

    def mean_of(column: int) -> Callable[[np.ndarray], float]:
        return lambda rows: _mean_of_numbers(rows[:, column])

    return {name: mean_of(column) for column, name in enumerate(names)}


def _mean_of_numbers(values: np.ndarray) -> float:
    numbers = values[np.isfinite(values)]
    return float(numbers.mean()) if numbers.size else float("nan")


def required(array: np.ndarray | None, clip: LabelledClip, what: str = "classes") -> np.ndarray:
    """Returns labels of a clip.

    Raises:
        ValueError: if the clip has none.
    """
    if array is None:
        raise ValueError(f"{clip.key} has no {what}; choose another --task, or other data")
    return array


def frame_size(clip: LabelledClip) -> tuple[int, int]:
    """Returns height and width in pixels."""
    return clip.frames.shape[1], clip.frames.shape[2]
