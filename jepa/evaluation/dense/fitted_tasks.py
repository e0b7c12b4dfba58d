"""Segmentation and depth: a linear head is fitted on some clips and scored on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jepa.evaluation.dense.depth_scores import DepthScores, depth_scores, median_scaled
from jepa.evaluation.dense.heads import Reads, class_loss, fit_closed_form, train_head, value_loss
from jepa.evaluation.dense.measured_clips import (
    Clips,
    LabelledClip,
    Measurements,
    column_means,
    frame_size,
    required,
)
from jepa.evaluation.dense.patches import PatchFeatures
from jepa.evaluation.dense.segmentation_scores import (
    IGNORED,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)

HeadKind = Literal["trained", "closed_form"]
HEADS: dict[str, Callable[..., Reads]] = {"trained": train_head, "closed_form": fit_closed_form}
TARGET_SIDE = 128  # pixels: heads are fitted on labels no larger, and scored on whole pictures


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
        found = reads(features(clip.frames), frame_size(clip)).argmax(1).numpy()
        confusions.append(confusion_matrix(found, required(clip.classes, clip), len(names)))
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
        true = required(clip.depth, clip, "depths")
        found = reads(features(clip.frames), frame_size(clip))[:, 0].exp().numpy()
        if clip.depth_unit == "relative":
            found = median_scaled(found, true)
        rows.append(depth_scores(found, true))
        keys.append(clip.key)
    return Measurements(tuple(keys), np.array(rows), column_means(DepthScores._fields))


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
    classes = required(clip.classes, clip, "classes")
    return torch.from_numpy(np.where(classes == IGNORED, -1, classes.astype(np.int64)))


def _depth_targets(clip: LabelledClip) -> Tensor:
    depths = torch.from_numpy(required(clip.depth, clip, "depths")).log()
    if clip.depth_unit == "relative":  # of each clip only ratios mean anything
        depths = depths - depths.nanmedian()
    return depths


def _class_names(clips: Clips) -> tuple[str, ...]:
    for clip in clips:
        required(clip.classes, clip, "classes")
        return clip.class_names
    raise ValueError("there are no clips")
