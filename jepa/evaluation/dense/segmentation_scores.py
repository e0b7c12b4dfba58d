"""Mean intersection over union of classes: how well pictures are cut into what they show."""

from __future__ import annotations

import numpy as np

IGNORED = 65535  # a class: pixels of it are not scored


def confusion_matrix(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels: (num_classes, num_classes), int64, row the true class, column the predicted.

    Args:
        predicted: (...) classes in [0, num_classes).
        true: the same shape, classes or `IGNORED`.
        num_classes: how many there are.

    Raises:
        ValueError: if shapes differ or a class is out of range.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} must have one shape")
    is_scored = true != IGNORED
    predicted = predicted[is_scored].astype(np.int64)
    true = true[is_scored].astype(np.int64)
    for name, values in (("predicted", predicted), ("true", true)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{name} classes must be in [0, {num_classes - 1}], got {values.min()} to "
                f"{values.max()}"
            )
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_ious(confusion: np.ndarray) -> np.ndarray:
    """Returns intersection over union of each class: (classes,), NaN where it never occurs."""
    both = np.diagonal(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def mean_iou(confusions: np.ndarray) -> float:
    """Returns the mean over the classes that occur, in truth or prediction.

    Args:
        confusions: (clips, classes, classes) or (classes, classes); pixels of all clips count
            together, as in PASCAL VOC and ADE20K.
    """
    classes = confusions.shape[-1]
    ious = class_ious(confusions.reshape(-1, classes, classes).sum(0))
    return float(np.nanmean(ious)) if np.isfinite(ious).any() else float("nan")


def pixel_accuracy(confusions: np.ndarray) -> float:
    """Returns the share of pixels whose class is right; arguments as in `mean_iou`."""
    classes = confusions.shape[-1]
    total = confusions.reshape(-1, classes, classes).sum(0)
    return float(np.trace(total) / max(int(total.sum()), 1))
