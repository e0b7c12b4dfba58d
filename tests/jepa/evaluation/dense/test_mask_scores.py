"""J and F against a slow version, and masks whose scores are known by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from jepa.evaluation.dense.mask_scores import (
    boundary_similarity,
    mask_boundary,
    region_similarity,
    video_mask_scores,
)

SIZE = 100  # the diagonal is 141.4 pixels, so boundaries match within ceil(1.13) = 2 pixels


def square(left, top, side=40):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def slow_boundary(mask):
    """Pixels that differ from a neighbour to the right, below, or aslant below."""
    height, width = mask.shape
    found = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for down, right in ((0, 1), (1, 0), (1, 1)):
                other = mask[min(y + down, height - 1), min(x + right, width - 1)]
                found[y, x] |= mask[y, x] != other
    return found


def slow_f(predicted, true):
    radius = math.ceil(0.008 * math.hypot(*true.shape))
    found, wanted = np.argwhere(slow_boundary(predicted)), np.argwhere(slow_boundary(true))

    def matched(points, others):
        return np.mean([((others - point) ** 2).sum(1).min() <= radius**2 for point in points])

    precision, recall = matched(found, wanted), matched(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_the_boundary_of_a_rectangle_by_hand():
    """Rows 1 to 2 and columns 1 to 2 of 5: a ring from row and column 0 to 2, open inside."""
    mask = np.zeros((5, 5), dtype=bool)
    mask[1:3, 1:3] = True
    expected = np.zeros((5, 5), dtype=bool)
    expected[0:3, 0:3] = True
    expected[1, 1] = False
    np.testing.assert_array_equal(mask_boundary(mask), expected)


def test_the_edge_of_the_picture_is_no_boundary():
    assert not mask_boundary(np.ones((4, 6), dtype=bool)).any()


@pytest.mark.parametrize("seed", range(5))
def test_f_is_that_of_the_slow_version(seed):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(40), np.arange(30))

    def blob():
        return (x - rng.uniform(10, 30)) ** 2 + 2 * (y - rng.uniform(8, 22)) ** 2 < 80

    predicted, true = blob() ^ (rng.random((30, 40)) < 0.01), blob()
    assert boundary_similarity(predicted, true) == pytest.approx(slow_f(predicted, true))


def test_j_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    predicted, true = rng.random((2, 9, 9)) < 0.5
    expected = jaccard_score(true.ravel(), predicted.ravel())
    assert region_similarity(predicted, true) == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "f"), [(0, 1.0), (1, 1.0), (2, 1.0)])
def test_a_boundary_within_the_tolerance_is_right(shift, f):
    true, predicted = square(20, 20), square(20 + shift, 20)
    assert region_similarity(predicted, true) == pytest.approx((40 - shift) / (40 + shift))
    assert boundary_similarity(predicted, true) == f


def test_a_square_shifted_too_far_keeps_the_boundary_along_the_shift():
    """Shifted by 10: its upper and lower sides match over 31 + 2 pixels, the others nowhere.

    A square of side 40 has a boundary of 4 * 41 - 4 = 160 pixels: 41 along each side, corners
    shared. Of those above, x = 30 ... 60 lie in both (31), and 2 more are within 2 pixels.
    Of the side, 2 more pixels below each corner are near the other's upper side... counted: none
    of its column is nearer than 2 to it but those within 2 rows of the horizontal sides.
    """
    true, predicted = square(20, 20), square(30, 20)
    matched = 2 * (31 + 2)  # along both horizontal sides
    matched += 2 * 2  # of the vertical side that lies over the other's: 2 rows below and above
    assert boundary_similarity(predicted, true) == pytest.approx(matched / 160)


def test_far_apart_is_nothing_and_empty_masks_agree():
    empty = np.zeros((SIZE, SIZE), dtype=bool)
    assert boundary_similarity(square(0, 0, 20), square(60, 60, 20)) == 0.0
    assert region_similarity(empty, empty) == boundary_similarity(empty, empty) == 1.0
    assert region_similarity(square(9, 9), empty) == boundary_similarity(square(9, 9), empty) == 0.0
    assert boundary_similarity(empty, square(9, 9)) == 0.0


def test_objects_of_a_video_are_scored_one_by_one():
    true = np.zeros((2, SIZE, SIZE), dtype=np.int64)
    true[:, square(10, 10, 30)], true[:, square(60, 60, 30)] = 1, 2
    predicted = true.copy()
    predicted[1][predicted[1] == 2] = 0  # lost in the second frame
    scores = video_mask_scores(predicted, true, [1, 2], ignored=9)
    np.testing.assert_allclose(scores, [[1, 1], [0.5, 0.5]])


def test_ignored_pixels_belong_to_no_mask():
    true = np.zeros((1, SIZE, SIZE), dtype=np.int64)
    true[:, square(10, 10)] = 1
    predicted = true.copy()
    true[:, square(60, 60, 30)], predicted[:, square(60, 60, 30)] = 9, 1
    np.testing.assert_allclose(video_mask_scores(predicted, true, [1], ignored=9), [[1, 1]])
