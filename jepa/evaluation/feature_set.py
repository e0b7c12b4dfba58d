"""Features of a data set as arrays: what every probe reads, batch by batch.

A *sample* is what has one label (a video, an image, or a window of a trajectory); a *row* is one
clip of it as one view sees it. All samples of a set have the same clips and views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class FeatureBatch(NamedTuple):
    """Some samples with all of their rows.

    Attributes:
        features: (batch, views, clips, layers, tokens, dim), float32.
        labels: (batch,) class indices, or (batch, targets) numbers.
        samples: (batch,) which samples these are.
    """

    features: np.ndarray
    labels: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class FeatureSet:
    """Features of one split of a data set, with what should be read off them.

    Attributes:
        features: (rows, layers, tokens, dim), float16 or float32; may be a read-only memory map.
        keys: (samples,) name of each sample.
        groups: (rows,) int: which sample a row belongs to, an index into `keys` and `labels`.
        clips: (rows,) int: which moment of the sample, from 0, the earliest first.
        views: (rows,) int: which spatial crop, from 0.
        labels: (samples,) int class indices into `classes`, or (samples, targets) floats.
        classes: names of the classes; None: the labels are numbers to regress.
        targets: names of the numbers to regress, in the order of the labels' columns; () if unnamed
            or if there are classes.
        recordings: (samples,) int: which independent recording a sample is of. Resample these, not
            samples, for an interval: windows of one trajectory are not independent. Default: each
            sample is one.

    Raises:
        ValueError: if the arrays do not fit one another.
    """

    features: np.ndarray
    keys: Sequence[str]
    groups: np.ndarray
    clips: np.ndarray
    views: np.ndarray
    labels: np.ndarray
    classes: Sequence[str] | None = None
    targets: Sequence[str] = ()
    recordings: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.recordings) == 0:
            object.__setattr__(self, "recordings", np.arange(len(self.keys)))
        _refuse_wrong_features(self.features)
        _refuse_wrong_rows(self)
        _refuse_wrong_labels(self)

    @property
    def num_samples(self) -> int:
        """Returns how many samples there are."""
        return len(self.keys)

    @property
    def table(self) -> np.ndarray:
        """Returns the row of each sample, view and clip: (samples, views, clips).

        Raises:
            ValueError: if the samples do not all have the same views and clips, once each.
        """
        shape = (self.num_samples, int(self.views.max()) + 1, int(self.clips.max()) + 1)
        table = np.full(shape, -1, np.int64)
        table[self.groups, self.views, self.clips] = np.arange(len(self.groups))
        if len(self.groups) != table.size or (table < 0).any():
            raise ValueError(
                f"{len(self.groups)} rows are not the {shape[0]} samples x {shape[1]} views x "
                f"{shape[2]} clips that their indices speak of, once each"
            )
        return table

    def batches(
        self, batch_size: int, *, order: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[FeatureBatch]:
        """Yields samples with all of their rows, reading no more than a batch of them at once.

        Args:
            batch_size: samples of a batch; the last one may be smaller.
            order: samples in the order wanted, perhaps a part of them; None: all, as they are.

        Raises:
            ValueError: if batch_size is below 1, or as `table`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        table = self.table
        samples = np.arange(self.num_samples) if order is None else np.asarray(order, np.int64)
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            features = np.asarray(self.features[table[batch]], np.float32)
            yield FeatureBatch(features, self.labels[batch], batch)


def _refuse_wrong_features(features: np.ndarray) -> None:
    if features.ndim != 4 or 0 in features.shape:
        raise ValueError(
            f"features must be (rows, layers, tokens, dim), none of them 0; got {features.shape}"
        )
    if features.dtype not in (np.float16, np.float32):
        raise ValueError(f"features must be float16 or float32, got {features.dtype}")


def _refuse_wrong_rows(found: FeatureSet) -> None:
    rows, samples = len(found.features), len(found.keys)
    if len(set(found.keys)) != samples:
        raise ValueError(f"keys must be different, got {samples - len(set(found.keys))} twice")
    for name in ("groups", "clips", "views", "recordings"):
        array = getattr(found, name)
        length = samples if name == "recordings" else rows
        if array.shape != (length,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be ({length},) whole numbers, got {array.shape} {array.dtype}"
            )
        if array.min() < 0:
            raise ValueError(f"{name} must not be negative, got {array.min()}")
    if not np.array_equal(np.unique(found.groups), np.arange(samples)):
        raise ValueError(
            f"groups must name each of the {samples} samples by its index, got "
            f"{len(np.unique(found.groups))} samples up to {found.groups.max()}"
        )


def _refuse_wrong_labels(found: FeatureSet) -> None:
    labels, samples = found.labels, len(found.keys)
    if found.classes is None:
        if labels.ndim != 2 or len(labels) != samples or labels.dtype.kind != "f":
            raise ValueError(
                f"without classes, labels must be ({samples}, targets) floats, got {labels.shape} "
                f"{labels.dtype}"
            )
        if not np.isfinite(labels).all():
            raise ValueError(f"{(~np.isfinite(labels)).sum()} labels are not finite numbers")
        if found.targets and len(found.targets) != labels.shape[1]:
            raise ValueError(f"{len(found.targets)} targets name {labels.shape[1]} label columns")
        return
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"with classes, labels must be ({samples},) whole numbers, got {labels.shape} "
            f"{labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= len(found.classes):
        raise ValueError(
            f"labels must be from 0 to {len(found.classes) - 1}, got {labels.min()} to "
            f"{labels.max()}"
        )
