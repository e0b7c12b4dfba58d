import numpy as np
import pytest

from jepa.evaluation.feature_set import FeatureSet


def feature_set(**changes):
    """Three samples of 2 clips x 2 views, 1 layer, 5 tokens, 4 numbers; a row's numbers are its."""
    rows = np.arange(12)
    return FeatureSet(
        **{
            "features": np.broadcast_to(rows[:, None, None, None], (12, 1, 5, 4)).astype("f4"),
            "keys": ["a", "b", "c"],
            "groups": rows // 4,
            "clips": rows // 2 % 2,
            "views": rows % 2,
            "labels": np.array([0, 1, 0]),
            "classes": ["left", "right"],
            **changes,
        }
    )


def test_the_table_finds_the_row_of_each_sample_view_and_clip():
    table = feature_set().table
    assert table.shape == (3, 2, 2)
    assert table[1].tolist() == [[4, 6], [5, 7]]  # view 0: clips 0, 1; view 1: clips 0, 1


def test_the_table_does_not_depend_on_the_order_of_the_rows():
    order = np.random.default_rng(0).permutation(12)
    ordered, plain = feature_set(), feature_set()
    shuffled = feature_set(
        features=plain.features[order],
        **{name: getattr(plain, name)[order] for name in ("groups", "clips", "views")},
    )
    for one, other in zip(ordered.batches(2), shuffled.batches(2), strict=True):
        assert np.array_equal(one.features, other.features)


def test_batches_hold_whole_samples_in_the_order_asked_for():
    batches = list(feature_set().batches(2, order=[2, 0, 1]))
    assert [batch.samples.tolist() for batch in batches] == [[2, 0], [1]]
    assert batches[0].labels.tolist() == [0, 0]
    assert batches[0].features.shape == (2, 2, 2, 1, 5, 4)
    assert batches[0].features[0, :, :, 0, 0, 0].tolist() == [[8, 10], [9, 11]]


def test_half_precision_is_read_as_float32():
    halves = feature_set(features=np.ones((12, 1, 5, 4), np.float16))
    assert next(halves.batches(3)).features.dtype == np.float32


def test_samples_are_recordings_of_their_own_unless_something_else_is_said():
    assert feature_set().recordings.tolist() == [0, 1, 2]
    assert feature_set(recordings=np.array([0, 0, 1])).recordings.tolist() == [0, 0, 1]


def test_numbers_are_labels_too():
    numbers = feature_set(labels=np.zeros((3, 2)), classes=None, targets=("x", "y"))
    assert next(numbers.batches(3)).labels.shape == (3, 2)


def test_samples_with_missing_rows_are_refused():
    with pytest.raises(ValueError, match="12 rows are not the 3 samples x 2 views x 3 clips"):
        feature_set(clips=np.array([0, 0, 2, 2] * 3)).batches(2).__next__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((12, 5, 4), "f4")}, r"must be \(rows, layers, tokens, dim\)"),
        ({"features": np.zeros((12, 1, 5, 4))}, "float16 or float32, got float64"),
        ({"groups": np.arange(11)}, r"groups must be \(12,\) whole numbers, got \(11,\)"),
        ({"clips": np.zeros(12)}, r"clips must be \(12,\) whole numbers, got \(12,\) float64"),
        ({"views": np.full(12, -1)}, "views must not be negative, got -1"),
        ({"groups": np.zeros(12, int)}, "groups must name each of the 3 samples"),
        ({"keys": ["a", "b", "a"]}, "keys must be different, got 1 twice"),
        ({"labels": np.array([0, 1, 2])}, "labels must be from 0 to 1, got 0 to 2"),
        ({"labels": np.zeros((3, 2))}, r"with classes, labels must be \(3,\) whole numbers"),
        ({"classes": None}, r"without classes, labels must be \(3, targets\) floats"),
        ({"classes": None, "labels": np.full((3, 1), np.nan)}, "3 labels are not finite"),
        (
            {"classes": None, "labels": np.zeros((3, 2)), "targets": ("x",)},
            "1 targets name 2 label columns",
        ),
        ({"recordings": np.zeros(2, int)}, r"recordings must be \(3,\) whole numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        feature_set(**changes)
    assert "\n" not in str(raised.value)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(feature_set().batches(0))
