"""How well a mask fits: J, its region, and F, its boundary (Perazzi et al., CVPR 2016, Sec. 4).

As in the evaluation of DAVIS: boundary pixels match within 0.8 % of the picture's diagonal.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt

BOUNDARY_TOLERANCE = 0.008  # of the picture's diagonal


def region_similarity(predicted: np.ndarray, true: np.ndarray) -> float:
    """Returns J, intersection over union of masks (height, width) bool; 1 if both are empty."""
    either = np.logical_or(predicted, true).sum()
    return float(np.logical_and(predicted, true).sum() / either) if either else 1.0


def boundary_similarity(predicted: np.ndarray, true: np.ndarray) -> float:
    """Returns F, the harmonic mean of precision and recall of boundary pixels.

    Args:
        predicted: (height, width), bool.
        true: the same shape.
    """
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*true.shape))
    found, wanted = mask_boundary(predicted), mask_boundary(true)
    if not found.any() or not wanted.any():
        return float(not found.any() and not wanted.any())
    precision = float(_near(wanted, radius)[found].mean())
    recall = float(_near(found, radius)[wanted].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_boundary(mask: np.ndarray) -> np.ndarray:
    """Returns which pixels differ from the one to the right, below, or aslant below.

    A boundary lies between pixels; it is drawn on the upper left one of those that it parts, one
    pixel wide. The edge of the picture is no boundary.
    """
    mask = np.asarray(mask, dtype=bool)
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, aslant = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask ^ right) | (mask ^ below) | (mask ^ aslant)


def _near(boundary: np.ndarray, radius: int) -> np.ndarray:
    """Returns which pixels are within `radius` of a boundary pixel."""
    return np.asarray(distance_transform_edt(~boundary)) <= radius


def video_mask_scores(
    predicted: np.ndarray, true: np.ndarray, object_ids: list[int], *, ignored: int
) -> np.ndarray:
    """Scores every object of a video: (objects, 2), J and F, each averaged over the frames.

    Args:
        predicted: (time, height, width), object ids.
        true: the same shape; pixels of the id `ignored` belong to no mask.
        object_ids: that are scored.
        ignored: see `true`.
    """
    predicted = np.where(true == ignored, ignored, predicted)
    scores = np.empty((len(object_ids), len(true), 2))
    for row, number in enumerate(object_ids):
        for time in range(len(true)):
            masks = predicted[time] == number, true[time] == number
            scores[row, time] = region_similarity(*masks), boundary_similarity(*masks)
    return scores.mean(1)
