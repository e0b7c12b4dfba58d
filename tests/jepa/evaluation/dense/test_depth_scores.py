"""Depth errors against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics

from jepa.evaluation.dense.depth_scores import depth_scores, median_scaled


def test_errors_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.uniform(1, 9, (2, 5, 7)), rng.uniform(1, 9, (2, 5, 7))
    scores = depth_scores(predicted, true)
    flat = true.ravel(), predicted.ravel()
    assert scores.rmse == pytest.approx(metrics.root_mean_squared_error(*flat))
    assert scores.abs_rel == pytest.approx(metrics.mean_absolute_percentage_error(*flat))


def test_a_case_by_hand():
    """Off by 0, by a factor of 1.2 (near enough), by 1.25 (not), and by 1/2."""
    scores = depth_scores(np.array([2.0, 2.4, 2.5, 1.0]), np.full(4, 2.0))
    assert scores.delta1 == 0.5
    assert scores.abs_rel == pytest.approx((0 + 0.2 + 0.25 + 0.5) / 4)
    assert scores.rmse == pytest.approx(np.sqrt((0 + 0.16 + 0.25 + 1) / 4))


def test_unknown_depths_do_not_count():
    scores = depth_scores(np.array([2.0, 50.0]), np.array([2.0, np.nan]))
    assert scores == (0.0, 0.0, 1.0)


def test_a_factor_is_forgiven_where_depths_have_no_unit():
    true = np.array([1.0, 2.0, 4.0, np.nan])
    np.testing.assert_allclose(median_scaled(3 * true, true)[:3], true[:3])


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([1.0], [np.nan], "no depth is known"),
        ([0.0], [1.0], "predicted depths must be finite and above 0"),
        ([1.0, 1.0], [1.0], "must have one shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        depth_scores(np.array(predicted), np.array(true))
