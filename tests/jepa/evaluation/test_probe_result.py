from dataclasses import replace

import numpy as np
import pytest

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.probe_result import (
    Splits,
    chance,
    gain,
    intervals,
    main_score,
    refuse_unlike,
)
from jepa.evaluation.scores import bootstrap_interval, r2


def classes(labels, *, num_classes=2, recordings=()):
    index = np.arange(len(labels))
    return FeatureSet(
        np.zeros((len(labels), 1, 2, 3), np.float32),
        [str(sample) for sample in index],
        index,
        0 * index,
        0 * index,
        np.array(labels),
        [f"class {number}" for number in range(num_classes)],
        recordings=np.array(recordings, np.int64),
    )


def numbers(labels, targets=()):
    index = np.arange(len(labels))
    features = np.zeros((len(labels), 1, 2, 3), np.float32)
    keys = [str(sample) for sample in index]
    return FeatureSet(features, keys, index, 0 * index, 0 * index, labels, None, targets)


def one_hot(labels, num_classes=2):
    return np.eye(num_classes)[labels]


def test_accuracy_and_class_mean_by_hand():
    found = intervals(one_hot([0, 0, 0, 0]), classes([0, 0, 0, 1]))
    assert list(found) == ["top-1", "class mean"]
    assert found["top-1"].value == 0.75 and found["class mean"].value == 0.5
    assert found["top-1"].low < 0.75 < found["top-1"].high


def test_top_five_is_told_where_there_are_ten_classes():
    labels = np.arange(10)
    scores = np.tile(np.arange(10.0), (10, 1))  # the last five classes are always named
    found = intervals(scores, classes(labels, num_classes=10))
    assert (found["top-1"].value, found["top-5"].value) == (0.1, 0.5)


def test_r2_is_told_for_every_target_by_its_name():
    generator = np.random.default_rng(0)
    labels = generator.normal(size=(50, 2))
    predicted = labels + generator.normal(size=(50, 2)) * [0.1, 1.0]
    found = intervals(predicted, numbers(labels, ("x", "y")))
    assert list(found) == ["R2", "R2 of x", "R2 of y"]
    assert found["R2"].value == pytest.approx(r2(predicted, labels))
    assert found["R2 of x"].value == pytest.approx(r2(predicted[:, 0], labels[:, 0]))
    assert found["R2 of x"].low > found["R2 of y"].high


def test_windows_of_one_recording_are_drawn_together():
    labels, recordings = [0, 1] * 20, np.repeat(np.arange(4), 10)
    right = np.repeat([True, True, False, False], 10)
    predicted = one_hot(np.where(right, labels, 1 - np.array(labels)))
    apart = intervals(predicted, classes(labels))["top-1"]
    together = intervals(predicted, classes(labels, recordings=recordings))["top-1"]
    assert together == bootstrap_interval(np.array([1.0, 1.0, 0.0, 0.0]))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_a_gain_is_paired_so_that_hard_videos_cancel():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    is_hard = generator.random(200) < 0.5
    worse = one_hot(np.where(is_hard, 1 - labels, labels))
    is_hard[np.flatnonzero(is_hard)[:10]] = False  # ten more are right
    better = one_hot(np.where(is_hard, 1 - labels, labels))
    data = classes(labels)
    found = gain(better, worse, data)
    assert found.value == pytest.approx(0.05)
    assert found.low > 0
    overlap = [intervals(answers, data)["top-1"] for answers in (better, worse)]
    assert overlap[0].low < overlap[1].high
    assert gain(worse, better, data).high < 0


def test_a_gain_in_r2_is_the_difference_of_both():
    generator = np.random.default_rng(0)
    labels = generator.normal(size=(60, 2))
    one, other = labels + generator.normal(size=(2, 60, 2)) * 0.5
    found = gain(one, other, numbers(labels))
    assert found.value == pytest.approx(r2(one, labels) - r2(other, labels))


def test_chance_names_the_most_frequent_class_or_the_mean():
    train, test = classes([1, 1, 0]), classes([1, 0, 0, 1])
    assert main_score(chance(train, test), test) == 0.5
    assert main_score(chance(classes([0, 1]), test), test) == 0.5  # a draw goes to the first
    labels = np.array([[0.0], [2.0]])
    assert chance(numbers(labels), numbers(labels[:1])).tolist() == [[1.0]]


def test_numbers_that_are_not_finite_score_worst():
    labels = np.array([[0.0], [2.0]])
    assert main_score(np.full((2, 1), np.nan), numbers(labels)) == -np.inf


def test_splits_that_do_not_fit_are_refused():
    good = classes([0, 1])
    refuse_unlike(Splits(good, good, good))
    wide = replace(good, features=np.zeros((2, 1, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) to train on and \(1, 2, 4\) in test"):
        refuse_unlike(Splits(good, good, wide))
    with pytest.raises(ValueError, match=r"labels differ: 2 classes, of which 2 occur .* in valid"):
        refuse_unlike(Splits(good, classes([0, 1], num_classes=3), good))
    with pytest.raises(ValueError, match=r"labels differ: 2 classes.*1 numbers in test"):
        refuse_unlike(Splits(good, good, numbers(np.zeros((2, 1)))))
    with pytest.raises(ValueError, match=r"at least 2 classes to train on, got .*\['class 0'\]"):
        refuse_unlike(Splits(classes([0, 0]), good, good))
    ids = np.array([0, 1])
    two_clips = FeatureSet(good.features, ["a"], 0 * ids, ids, 0 * ids, np.array([0]), good.classes)
    with pytest.raises(ValueError, match="1 clips of a sample to train on and 2 in test"):
        refuse_unlike(Splits(good, good, two_clips))
