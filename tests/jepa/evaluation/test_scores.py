import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score, top_k_accuracy_score

import jepa  # noqa: F401  (before torchmetrics: it lets torchvision live with a CPU-only torch)

# isort: split
from torchmetrics.functional.classification import multiclass_accuracy

from jepa.evaluation.scores import (
    Interval,
    accuracy,
    bootstrap_interval,
    class_mean,
    hits,
    r2,
    rows_of_groups,
    seed_interval,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


# Intervals over videos.


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.std])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_interval_is_scipys_percentile_bootstrap(generator, statistic, level):
    values = generator.normal(size=40)
    ours = bootstrap_interval(values, statistic, num_resamples=300, seed=5, level=level)
    theirs = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=300,
        method="percentile",
        confidence_level=level,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert ours.value == pytest.approx(statistic(values))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says(generator):
    covered = [
        interval.low <= 0 <= interval.high
        for seed in range(200)
        for interval in [bootstrap_interval(generator.normal(size=60), seed=seed)]
    ]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_rows_of_a_video_are_drawn_together():
    # Four videos whose 100 rows are all alike: that is four observations, not four hundred.
    videos = [np.full(100, float(value)) for value in (0, 0, 1, 1)]
    grouped = bootstrap_interval(videos)
    apart = bootstrap_interval(np.concatenate(videos))
    assert grouped == bootstrap_interval(np.array([0.0, 0.0, 1.0, 1.0]))
    assert grouped.high - grouped.low > 5 * (apart.high - apart.low)


def test_groups_of_different_sizes_equal_a_slow_loop(generator):
    groups = [generator.normal(size=(size, 2)) for size in (3, 1, 5, 2)]

    def slope(rows):
        return float(rows[:, 0] @ rows[:, 1])

    ours = bootstrap_interval(groups, slope, num_resamples=200, seed=3)
    rng, slopes = np.random.default_rng(3), []
    for draw in rng.integers(0, 4, (200, 4)):
        slopes.append(slope(np.concatenate([groups[index] for index in draw])))
    assert ours.value == pytest.approx(slope(np.concatenate(groups)))
    assert (ours.low, ours.high) == pytest.approx(np.percentile(slopes, (2.5, 97.5)))


def test_rows_are_sorted_into_their_groups_in_order():
    values = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    parts = rows_of_groups(values, np.array([7, 2, 7, 2, 5]))
    assert [part.ravel().tolist() for part in parts] == [[2, 4], [5], [1, 3]]
    with pytest.raises(ValueError, match=r"5 rows have groups of shape \(4,\)"):
        rows_of_groups(values, np.zeros(4))


def test_a_draw_without_a_score_is_left_out_until_there_are_too_many():
    scores, labels = np.array([0.1, 0.2, 0.9, 0.8]), np.array([0, 0, 1, 1])

    def auroc(rows):
        return roc_auc_score(rows[:, 1], rows[:, 0]) if 0 < rows[:, 1].mean() < 1 else np.nan

    rows = np.stack((scores, labels), 1)
    assert bootstrap_interval(rows, auroc) == Interval(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="a number for 0 of 50 resamples of 2 groups only"):
        bootstrap_interval(rows[:2], auroc, num_resamples=50)


def test_the_same_seed_gives_the_same_interval_and_another_one_another(generator):
    values = generator.normal(size=30)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 1.0}, "level must be between 0 and 1, as 0.95, got 1.0"),
        ({"num_resamples": 0}, "num_resamples must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        bootstrap_interval(np.zeros(3), **options)
    with pytest.raises(ValueError, match="at least 1 group"):
        bootstrap_interval(np.zeros(0))


def test_an_interval_reads_as_a_number_with_its_ends():
    assert str(Interval(0.91234, 0.88, 0.95)) == "0.912 [0.880, 0.950]"


# Intervals over seeds.


def test_the_interval_over_seeds_is_that_of_scipys_t_test(generator):
    values = generator.normal(size=5)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    ours = seed_interval(values, level=0.9)
    assert ours == pytest.approx((values.mean(), theirs.low, theirs.high))


def test_two_seeds_by_hand():
    # mean 2, standard error 1, t of one degree of freedom at 97.5 %: tan(0.475 * pi) = 12.706
    assert seed_interval([1.0, 3.0]) == pytest.approx((2.0, 2.0 - 12.7062, 2.0 + 12.7062), 1e-4)


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match=r"at least 2 scores, got shape \(1,\)"):
        seed_interval([0.5])


# Scores.


@pytest.mark.parametrize("top", [1, 3, 5])
def test_accuracy_is_that_of_scikit_learn_and_torchmetrics(generator, top):
    scores, labels = generator.normal(size=(200, 7)), generator.integers(0, 7, 200)
    ours = accuracy(scores, labels, top=top)
    assert ours == pytest.approx(top_k_accuracy_score(labels, scores, k=top, labels=np.arange(7)))
    theirs = multiclass_accuracy(
        torch.tensor(scores), torch.tensor(labels), num_classes=7, top_k=top, average="micro"
    )
    assert ours == pytest.approx(float(theirs))


@pytest.mark.parametrize("top", [1, 5])
def test_the_mean_over_classes_is_that_of_scikit_learn_and_torchmetrics(generator, top):
    scores = generator.normal(size=(300, 7))
    labels = generator.choice(7, size=300, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.01, 0.01])
    ours = class_mean(hits(scores, labels, top=top), labels)
    if top == 1:
        assert ours == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))
    theirs = multiclass_accuracy(
        torch.tensor(scores), torch.tensor(labels), num_classes=7, top_k=top, average="macro"
    )
    assert ours == pytest.approx(float(theirs))
    assert abs(ours - accuracy(scores, labels, top=top)) > 0.001


def test_a_class_that_does_not_occur_does_not_weigh():
    labels = np.array([0, 0, 0, 2])
    assert class_mean(np.array([True, True, False, True]), labels) == pytest.approx((2 / 3 + 1) / 2)


def test_scores_that_are_all_alike_hit_nothing():
    scores, labels = np.zeros((3, 2)), np.array([0, 1, 0])
    assert hits(scores, labels).tolist() == [False] * 3
    assert hits(scores, labels, top=2).tolist() == [True] * 3


def test_scores_that_are_not_numbers_hit_nothing():
    scores, labels = np.full((3, 2), np.nan), np.array([0, 1, 0])
    assert not hits(scores, labels).any()
    assert not hits(scores, labels, top=2).any()
    assert hits(np.array([[0.5, np.nan]]), np.array([0])).tolist() == [False]


def test_r2_is_that_of_scikit_learn_and_by_hand(generator):
    true = generator.normal(size=(50, 3))
    predicted = true + generator.normal(size=(50, 3))
    by_column = [r2_score(true[:, i], predicted[:, i]) for i in range(3)]
    assert r2(predicted, true) == pytest.approx(np.mean(by_column))
    assert r2(np.array([1.0, 1.0]), np.array([0.0, 4.0])) == pytest.approx(-0.25)  # 1 - 10 / 8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hits(np.zeros(3), np.zeros(3, int)), r"scores must be \(rows, classes\)"),
        (lambda: hits(np.zeros((2, 3)), np.array([0, 3])), r"labels must be in \[0, 2\], got 0 to"),
        (lambda: hits(np.zeros((2, 3)), np.array([0, -1])), r"labels must be in \[0, 2\], got -1"),
        (lambda: hits(np.zeros((2, 3)), np.array([0, 1]), top=4), r"top must be in \[1, 3\]"),
        (lambda: r2(np.zeros((2, 1)), np.zeros(2)), r"\(2, 1\) and targets \(2,\) must agree"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
