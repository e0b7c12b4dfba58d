"""mIoU against scikit-learn, torchmetrics and a hand-made case."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.functional.segmentation import mean_iou as torchmetrics_mean_iou

from jepa.evaluation.dense.segmentation_scores import (
    IGNORED,
    class_ious,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (3, 8, 9))
    predicted = np.where(rng.random(true.shape) < 0.6, true, rng.integers(0, 4, true.shape))
    return predicted, true


def test_the_confusion_matrix_is_that_of_scikit_learn(pictures):
    predicted, true = pictures
    expected = metrics.confusion_matrix(true.ravel(), predicted.ravel())
    np.testing.assert_array_equal(confusion_matrix(predicted, true, 4), expected)


def test_the_mean_iou_is_that_of_scikit_learn(pictures):
    predicted, true = pictures
    expected = metrics.jaccard_score(true.ravel(), predicted.ravel(), average="macro")
    assert mean_iou(confusion_matrix(predicted, true, 4)) == pytest.approx(expected)


def test_the_mean_iou_of_one_picture_is_that_of_torchmetrics(pictures):
    predicted, true = (torch.from_numpy(array[:1]) for array in pictures)
    expected = torchmetrics_mean_iou(predicted, true, num_classes=4, input_format="index")
    ours = mean_iou(confusion_matrix(predicted.numpy(), true.numpy(), 4))
    assert ours == pytest.approx(float(expected.mean()))


def test_pixels_of_all_clips_count_together(pictures):
    predicted, true = pictures
    each = np.stack(
        [confusion_matrix(one, other, 4) for one, other in zip(predicted, true, strict=True)]
    )
    assert mean_iou(each) == pytest.approx(mean_iou(confusion_matrix(predicted, true, 4)))
    assert pixel_accuracy(each) == pytest.approx((predicted == true).mean())


def test_a_case_by_hand():
    """True 0 0 1 1, predicted 0 1 1 1: class 0 has 1 of 2, class 1 has 2 of 3, class 2 nothing."""
    counts = confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 3)
    np.testing.assert_allclose(class_ious(counts), [1 / 2, 2 / 3, np.nan])
    assert mean_iou(counts) == pytest.approx(7 / 12)


def test_what_is_ignored_does_not_count():
    true = np.array([0, 1, IGNORED, IGNORED])
    counts = confusion_matrix(np.array([0, 1, 0, 1]), true, 2)
    assert counts.sum() == 2
    assert mean_iou(counts) == 1.0


def test_nothing_scored_is_no_number():
    assert np.isnan(mean_iou(np.zeros((2, 3, 3), dtype=int)))


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([0, 3], [0, 1], r"predicted classes must be in \[0, 2\], got 0 to 3"),
        ([0, 1], [0, 7], r"true classes must be in \[0, 2\], got 0 to 7"),
        ([0], [0, 1], "must have one shape"),
    ],
)
def test_classes_out_of_range_are_refused(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(predicted), np.array(true), 3)
