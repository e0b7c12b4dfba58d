"""TAP-Vid's measures by hand: a point, four frames, every kind of mistake."""

import numpy as np
import pytest

from jepa.evaluation.dense.track_scores import track_scores

SIZE = (256, 256)


def scored(predicted, predicted_visible, true, true_visible, starts=None, size=SIZE):
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    starts = np.zeros(len(true), dtype=int) if starts is None else np.asarray(starts)
    return track_scores(
        predicted,
        np.asarray(predicted_visible, bool),
        true,
        np.asarray(true_visible, bool),
        starts,
        size=size,
    )


def still(num_points=1, num_frames=4):
    return np.full((num_points, num_frames, 2), 50.0), np.ones((num_points, num_frames), bool)


def test_a_perfect_track_scores_one():
    places, seen = still()
    assert scored(places, seen, places, seen) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("error", "within"), [(0.5, 5), (1.5, 4), (2.0, 3), (3.9, 3), (7.0, 2), (15.0, 1), (16.0, 0)]
)
def test_a_point_counts_for_the_thresholds_that_it_is_below(error, within):
    places, seen = still()
    found = places + np.array([error, 0.0])
    scores = scored(found, seen, places, seen)
    assert scores.delta_average == pytest.approx(within / 5)
    assert scores.average_jaccard == pytest.approx(within / 5)  # 1 at some thresholds, 0 at others


def test_jaccard_counts_misses_and_false_claims():
    """Frames 1 to 3: found rightly, missed (said to be hidden), and claimed though hidden.

    At each threshold: 1 right; 2 visible in truth and 1 claimed wrongly: 1 / 3.
    """
    places, _ = still()
    true_visible = [[1, 1, 1, 0]]
    scores = scored(places, [[1, 1, 0, 1]], places, true_visible)
    assert scores.average_jaccard == pytest.approx(1 / 3)
    assert scores.occlusion_accuracy == pytest.approx(1 / 3)
    assert scores.delta_average == 1.0  # where it is, is known; whether it is seen does not matter


def test_a_visible_point_in_the_wrong_place_counts_twice_against():
    """Of two visible frames one is found, one 100 pixels off: 1 / (2 + 1)."""
    true, seen = still(num_frames=3)
    found = true.copy()
    found[0, 2, 0] += 100
    assert scored(found, seen, true, seen).average_jaccard == pytest.approx(1 / 3)


def test_only_frames_after_the_query_count():
    true, seen = still(num_points=2)
    found = true.copy()
    found[0, :3] += 100  # before and at its query, in frame 2
    assert scored(found, seen, true, seen, starts=[2, 0]) == (1.0, 1.0, 1.0)
    found[0, 3] += 100
    assert scored(found, seen, true, seen, starts=[2, 0]).delta_average == pytest.approx(3 / 4)


def test_distances_are_those_in_a_picture_of_256_pixels():
    """3 pixels of 64 to the right are 12, and 3 of 128 down are 6."""
    true, seen = still()
    right, down = true + np.array([3.0, 0.0]), true + np.array([0.0, 3.0])
    assert scored(right, seen, true, seen, size=(128, 64)).delta_average == pytest.approx(1 / 5)
    assert scored(down, seen, true, seen, size=(128, 64)).delta_average == pytest.approx(2 / 5)


def test_points_that_are_never_seen_again_have_no_delta():
    true, _ = still()
    scores = scored(true, np.zeros((1, 4)), true, [[1, 0, 0, 0]])
    assert np.isnan(scores.delta_average) and np.isnan(scores.average_jaccard)
    assert scores.occlusion_accuracy == 1.0


def test_what_cannot_be_scored_is_refused():
    true, seen = still()
    with pytest.raises(ValueError, match="no frame follows"):
        scored(true, seen, true, seen, starts=[3])
    with pytest.raises(ValueError, match=r"tracks must be \(points, time, 2\)"):
        scored(true[:, :3], seen, true, seen)
