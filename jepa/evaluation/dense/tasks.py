"""The four tasks: which clips they can use, what is scored, and the same for every baseline.

Each takes labelled clips and what makes features of frames, and returns measurements per clip; the
interval is over clips, since pixels of one are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jepa.evaluation.dense.depth_scores import DepthScores, depth_scores, median_scaled
from jepa.evaluation.dense.heads import (
    Reads,
    class_loss,
    fit_closed_form,
    train_head,
    value_loss,
)
from jepa.evaluation.dense.mask_scores import video_mask_scores
from jepa.evaluation.dense.patches import PatchFeatures
from jepa.evaluation.dense.propagation import (
    PropagationSettings,
    patch_shares,
    propagate,
    upsampled_ids,
)
from jepa.evaluation.dense.segmentation_scores import (
    IGNORED,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from jepa.evaluation.dense.track_scores import TrackScores, track_scores
from jepa.evaluation.dense.tracking import TrackingSettings, track_points
from jepa.evaluation.scores import Interval, bootstrap_interval

HeadKind = Literal["trained", "closed_form"]
HEADS: dict[str, Callable[..., Reads]] = {"trained": train_head, "closed_form": fit_closed_form}
TARGET_SIDE = 128  # pixels: heads are fitted on labels no larger, and scored on whole pictures


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


# ---------------------------------------------------------------------- with a head


def segmentation(
    features: PatchFeatures,
    train: Clips,
    test: Clips,
    *,
    head: HeadKind = "closed_form",
    seed: int = 0,
    **head_options: Any,  # noqa: ANN401
) -> Measurements:
    """Fits a head on the classes of pixels and scores it on other clips: mIoU, pixel accuracy.

    Raises:
        ValueError: if clips have no classes, or those of `test` are others.
    """
    names = _class_names(train)
    if _class_names(test) != names:
        raise ValueError(
            f"the clips to fit on have the classes {names}, those to score on {_class_names(test)}"
        )
    reads = _fitted(
        features, train, _class_targets, len(names), class_loss, head, seed=seed, **head_options
    )
    keys, confusions = [], []
    for clip in test:
        found = reads(features(clip.frames), _size(clip)).argmax(1).numpy()
        confusions.append(confusion_matrix(found, _required(clip.classes, clip), len(names)))
        keys.append(clip.key)
    statistics = {"mean_iou": mean_iou, "pixel_accuracy": pixel_accuracy}
    return Measurements(tuple(keys), np.stack(confusions), statistics)


def depth(
    features: PatchFeatures,
    train: Clips,
    test: Clips,
    *,
    head: HeadKind = "closed_form",
    seed: int = 0,
    **head_options: Any,  # noqa: ANN401
) -> Measurements:
    """Fits a head on the logarithm of the depth and scores it on other clips.

    Depths without a unit are scored after their median is made that of the truth.

    Raises:
        ValueError: if clips have no depths.
    """
    reads = _fitted(features, train, _depth_targets, 1, value_loss, head, seed=seed, **head_options)
    keys, rows = [], []
    for clip in test:
        true = _required(clip.depth, clip, "depths")
        found = reads(features(clip.frames), _size(clip))[:, 0].exp().numpy()
        if clip.depth_unit == "relative":
            found = median_scaled(found, true)
        rows.append(depth_scores(found, true))
        keys.append(clip.key)
    return Measurements(tuple(keys), np.array(rows), _column_means(DepthScores._fields))


def _fitted(
    features: PatchFeatures,
    clips: Clips,
    targets_of: Callable[[LabelledClip], Tensor],
    num_outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    head: HeadKind,
    **options: Any,  # noqa: ANN401
) -> Reads:
    """Encodes the clips once, and fits the head on all of their frames."""
    inputs, targets = [], []
    for clip in clips:
        inputs.append(features(clip.frames))
        targets.append(targets_of(clip))
    if not inputs:
        raise ValueError("there are no clips to fit a head on")
    side = TARGET_SIDE if len({target.shape[1:] for target in targets}) > 1 else None
    return HEADS[head](
        torch.cat(inputs),
        torch.cat([_small(target, side) for target in targets]),
        num_outputs,
        loss,
        **options,
    )


def _small(target: Tensor, side: int | None) -> Tensor:
    """Returns a target no larger than `TARGET_SIDE`, or of one square side, by nearest pixels."""
    height, width = target.shape[1:]
    size = (side, side) if side else (min(height, TARGET_SIDE), min(width, TARGET_SIDE))
    if size == (height, width):
        return target
    kept = functional.interpolate(target[:, None].double(), size=size, mode="nearest-exact")
    return kept[:, 0].to(target.dtype)


def _class_targets(clip: LabelledClip) -> Tensor:
    classes = _required(clip.classes, clip, "classes")
    return torch.from_numpy(np.where(classes == IGNORED, -1, classes.astype(np.int64)))


def _depth_targets(clip: LabelledClip) -> Tensor:
    depths = torch.from_numpy(_required(clip.depth, clip, "depths")).log()
    if clip.depth_unit == "relative":  # of each clip only ratios mean anything
        depths = depths - depths.nanmedian()
    return depths


def _class_names(clips: Clips) -> tuple[str, ...]:
    for clip in clips:
        _required(clip.classes, clip, "classes")
        return clip.class_names
    raise ValueError("there are no clips")


# ---------------------------------------------------------------------- without training


def propagation(
    features: PatchFeatures | None,
    clips: Clips,
    *,
    settings: PropagationSettings | None = None,
) -> Measurements:
    """Carries the masks of the first frame through each clip, and scores J, F and their mean.

    As in DAVIS, every object counts alike, and the first and last frames are not scored.

    Args:
        features: None: nothing moves, the masks stay where they were.
        clips: those without an object in their first frame are left out.
        settings: None for the published ones.

    Raises:
        ValueError: if clips have no masks, none has an object, or one has fewer than 3 frames.
    """
    keys, rows = [], []
    for clip in clips:
        true = _required(clip.object_ids, clip, "masks")
        ids = sorted(set(np.unique(true[0]).tolist()) - {0, IGNORED})
        if len(true) < 3:
            raise ValueError(f"{clip.key} has {len(true)} frames; propagation needs at least 3")
        if not ids:
            continue
        found = _carried_masks(features, clip, true, ids, settings)
        rows.append(video_mask_scores(found[1:-1], true[1:-1], ids, ignored=IGNORED))
        keys.append(clip.key)
    if not keys:
        raise ValueError("no clip has an object in its first frame")
    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "J&F": lambda scores: float(scores.mean()),
        "J": lambda scores: float(scores[:, 0].mean()),
        "F": lambda scores: float(scores[:, 1].mean()),
    }
    return Measurements(tuple(keys), rows, statistics)


def _carried_masks(
    features: PatchFeatures | None,
    clip: LabelledClip,
    true: np.ndarray,
    ids: list[int],
    settings: PropagationSettings | None,
) -> np.ndarray:
    """Returns object ids (time, height, width) that follow from those of the first frame."""
    first = np.where(np.isin(true[0], ids), true[0], 0)
    if features is None:
        return np.broadcast_to(first, true.shape)
    patches = features(clip.frames)
    names = [0, *ids]
    grid = (patches.shape[1], patches.shape[2])
    shares = patch_shares(torch.from_numpy(first.astype(np.int64)), names, grid)
    return upsampled_ids(propagate(patches, shares, settings), names, _size(clip)).numpy()


def tracking(
    features: PatchFeatures | None,
    clips: Clips,
    *,
    settings: TrackingSettings | None = None,
) -> Measurements:
    """Follows points from where they are seen first, and scores them as TAP-Vid does.

    Args:
        features: None: nothing moves, a point stays where it was, always visible.
        clips: a clip whose points are all first seen in its last frame is left out.
        settings: None for the defaults.

    Raises:
        ValueError: if clips have no tracks.
    """
    keys, rows = [], []
    for clip in clips:
        true = _required(clip.tracks, clip, "tracks")
        starts = clip.query_frames
        if not (starts < len(clip.frames) - 1).any():
            continue
        places, is_visible = _followed(features, clip, true, starts, settings)
        true_visible = _required(clip.is_visible, clip, "tracks")
        rows.append(track_scores(places, is_visible, true, true_visible, starts, size=_size(clip)))
        keys.append(clip.key)
    if not keys:
        raise ValueError("no clip has a point that could be followed")
    return Measurements(tuple(keys), np.array(rows), _column_means(TrackScores._fields))


def _followed(
    features: PatchFeatures | None,
    clip: LabelledClip,
    true: np.ndarray,
    starts: np.ndarray,
    settings: TrackingSettings | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns places (points, time, 2) and visibility (points, time) from the queries alone."""
    queries = true[np.arange(len(true)), starts]  # (points, 2)
    if features is None:
        places = np.broadcast_to(queries[:, None], true.shape)
        return places, np.ones(true.shape[:2], dtype=bool)
    found = track_points(
        features(clip.frames),
        torch.from_numpy(queries),
        torch.from_numpy(starts),
        size=_size(clip),
        settings=settings,
    )
    return found.places.numpy(), found.is_visible.numpy()


# ---------------------------------------------------------------------- shared


def _column_means(names: Sequence[str]) -> dict[str, Callable[[np.ndarray], float]]:
    """Returns for each column the mean over the clips for which it is a number."""

    def mean_of(column: int) -> Callable[[np.ndarray], float]:
        return lambda rows: _mean_of_numbers(rows[:, column])

    return {name: mean_of(column) for column, name in enumerate(names)}


def _mean_of_numbers(values: np.ndarray) -> float:
    numbers = values[np.isfinite(values)]
    return float(numbers.mean()) if numbers.size else float("nan")


def _required(array: np.ndarray | None, clip: LabelledClip, what: str = "classes") -> np.ndarray:
    if array is None:
        raise ValueError(f"{clip.key} has no {what}; choose another --task, or other data")
    return array


def _size(clip: LabelledClip) -> tuple[int, int]:
    return clip.frames.shape[1], clip.frames.shape[2]


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
