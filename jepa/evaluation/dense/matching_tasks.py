"""Mask propagation and point tracking: patches are matched over frames, nothing is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from jepa.evaluation.dense.mask_scores import video_mask_scores
from jepa.evaluation.dense.measured_clips import (
    Clips,
    LabelledClip,
    Measurements,
    column_means,
    frame_size,
    required,
)
from jepa.evaluation.dense.patches import PatchFeatures
from jepa.evaluation.dense.propagation import (
    PropagationSettings,
    patch_shares,
    propagate,
    upsampled_ids,
)
from jepa.evaluation.dense.segmentation_scores import IGNORED
from jepa.evaluation.dense.track_scores import TrackScores, track_scores
from jepa.evaluation.dense.tracking import TrackingSettings, track_points


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
        true = required(clip.object_ids, clip, "masks")
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
    return upsampled_ids(propagate(patches, shares, settings), names, frame_size(clip)).numpy()


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
        true = required(clip.tracks, clip, "tracks")
        starts = clip.query_frames
        if not (starts < len(clip.frames) - 1).any():
            continue
        places, is_visible = _followed(features, clip, true, starts, settings)
        true_visible = required(clip.is_visible, clip, "tracks")
        rows.append(
            track_scores(places, is_visible, true, true_visible, starts, size=frame_size(clip))
        )
        keys.append(clip.key)
    if not keys:
        raise ValueError("no clip has a point that could be followed")
    return Measurements(tuple(keys), np.array(rows), column_means(TrackScores._fields))


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
        size=frame_size(clip),
        settings=settings,
    )
    return found.places.numpy(), found.is_visible.numpy()
