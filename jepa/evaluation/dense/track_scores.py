"""How well points are followed: the measures of TAP-Vid (arXiv:2211.03726, Sec. 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels
SCORED_SIZE = 256  # pixels: thresholds are for pictures of this height and width


class TrackScores(NamedTuple):
    """Of the points of one video.

    Attributes:
        delta_average: share of visible points found within a threshold, averaged over thresholds.
        occlusion_accuracy: share of points of which it is said rightly whether they are visible.
        average_jaccard: rightly visible and near enough / (visible in truth + wrongly said to be
            there), averaged over thresholds.
    """

    delta_average: float
    occlusion_accuracy: float
    average_jaccard: float


def track_scores(
    predicted: np.ndarray,
    predicted_visible: np.ndarray,
    true: np.ndarray,
    true_visible: np.ndarray,
    query_frames: np.ndarray,
    *,
    size: tuple[int, int],
) -> TrackScores:
    """Compares tracks in the frames after that in which each point was asked for.

    Args:
        predicted: (points, time, 2), x and y in pixels.
        predicted_visible: (points, time), bool.
        true: as predicted.
        true_visible: as predicted_visible.
        query_frames: (points,), int.
        size: height and width of the picture in pixels; distances are taken as in one of 256 x 256.

    Returns:
        The scores; NaN where no point is visible.

    Raises:
        ValueError: if shapes differ, or no frame follows a query.
    """
    shapes = {predicted.shape[:2], predicted_visible.shape, true.shape[:2], true_visible.shape}
    if len(shapes) != 1 or predicted.shape[2:] != (2,) or true.shape[2:] != (2,):
        raise ValueError(
            "tracks must be (points, time, 2) and their visibility (points, time), got "
            f"{predicted.shape}, {predicted_visible.shape}, {true.shape}, {true_visible.shape}"
        )
    is_scored = np.arange(true.shape[1]) > query_frames[:, None]  # (points, time)
    if not is_scored.any():
        raise ValueError("no frame follows the frame in which a point is asked for")
    scale = SCORED_SIZE / np.array(size[::-1], dtype=np.float64)
    distances = np.linalg.norm((predicted - true) * scale, axis=-1)[is_scored]
    said, seen = predicted_visible[is_scored], true_visible[is_scored]
    near = distances[:, None] < np.array(THRESHOLDS)  # (scored, thresholds)
    right = (near & said[:, None] & seen[:, None]).sum(0)
    wrong = (said[:, None] & ~(near & seen[:, None])).sum(0)
    num_seen = int(seen.sum())
    return TrackScores(
        delta_average=float(near[seen].mean()) if num_seen else float("nan"),
        occlusion_accuracy=float((said == seen).mean()),
        average_jaccard=float((right / (num_seen + wrong)).mean()) if num_seen else float("nan"),
    )
