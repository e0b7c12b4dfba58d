"""Verdicts against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jepa.evaluation.surprise.verdicts import (
    PairScore,
    auroc,
    calibrated,
    relative_accuracy,
    verdicts,
)


def scored(num_sets=20, *, lead=0.0, concept="gravity", seed=0):
    """Two pairs a set; the impossible video is more surprising by `lead`, on average."""
    rng = np.random.default_rng(seed)
    return [
        PairScore(concept, f"{concept}-{number // 2}", *rng.normal((0.0, lead)))
        for number in range(2 * num_sets)
    ]


def test_relative_accuracy_by_hand():
    assert relative_accuracy(np.array([[1, 2], [1, 2], [2, 1], [3, 3]])) == (1 + 1 + 0 + 0.5) / 4


@pytest.mark.parametrize("seed", range(4))
def test_auroc_is_that_of_scikit_learn_also_with_ties(seed):
    scores = np.random.default_rng(seed).integers(0, 6, (25, 2)) + np.array([0, 1])
    labels = np.repeat([0, 1], 25)
    assert auroc(scores) == pytest.approx(roc_auc_score(labels, scores.T.ravel()))


def test_perfect_surprise_is_one_and_constant_surprise_exactly_one_half():
    perfect = [PairScore("c", f"s{i}", 0.1, 0.9) for i in range(10)]
    constant = [PairScore("c", f"s{i}", 0.5, 0.5) for i in range(10)]
    for pairs, value in ((perfect, 1.0), (constant, 0.5)):
        for verdict in verdicts(pairs, num_resamples=50).values():
            assert verdict.relative_accuracy == (value, value, value)
            assert verdict.auroc == (value, value, value)
    assert verdicts(perfect, num_resamples=50)["all"].calibrated == (1.0, 0.0)
    assert verdicts(constant, num_resamples=50)["all"].calibrated == (0.0, 0.0)


def test_a_surprise_in_the_wrong_direction_is_worse_than_chance():
    wrong = [PairScore("c", f"s{i}", 0.9, 0.1) for i in range(10)]
    assert verdicts(wrong, num_resamples=50)["all"].auroc.value == 0.0


def test_pairs_may_be_right_although_scenes_differ_more_than_videos_of_a_pair():
    """Why both numbers are told: surprise differs from scene to scene."""
    pairs = np.array([[scene, scene + 0.1] for scene in range(50)], dtype=float)
    assert relative_accuracy(pairs) == 1.0
    assert auroc(pairs) == pytest.approx(0.51, abs=0.001)


def test_each_concept_and_all_together_are_judged():
    pairs = [*scored(lead=10.0, concept="a"), *scored(lead=0.0, concept="b", seed=1)]
    judged = verdicts(pairs, num_resamples=200)
    assert list(judged) == ["a", "b", "all"]
    assert [verdict.num_pairs for verdict in judged.values()] == [40, 40, 80]
    assert [verdict.num_sets for verdict in judged.values()] == [20, 20, 40]
    assert judged["a"].auroc.low > 0.9
    assert judged["b"].auroc.low < 0.5 < judged["b"].auroc.high


def test_intervals_draw_sets_not_pairs():
    """Pairs that are copies of one another are no more evidence than one of them."""
    rng = np.random.default_rng(0)
    rows = [(i, *rng.normal((0.0, 0.5))) for i in range(12)]
    once = [PairScore("c", f"s{i}", *row) for i, *row in rows]
    copied = [pair for pair in once for _ in range(8)]
    alone, many = (verdicts(pairs)["all"].relative_accuracy for pairs in (once, copied))
    assert many == pytest.approx(alone)


def test_the_threshold_comes_from_the_other_half():
    """By hand: the halves are sets 0 and 2, and sets 1 and 3; the level is the median."""
    sets = [np.array([[1.0, 5.0]]), np.array([[4.0, 6.0]]), np.array([[3.0, 4.5]])]
    sets.append(np.array([[6.0, 2.5]]))
    # Thresholds: 2 of the first half, 5 of the second. Above 5 in the first half: none. Above 2 in
    # the second: both possible ones and both impossible ones.
    assert calibrated(sets, level=0.5) == (2 / 4, 2 / 4)


def test_a_threshold_lets_nine_of_ten_possible_videos_pass():
    pairs = scored(400, lead=3.0)
    threshold = verdicts(pairs, num_resamples=10)["all"].calibrated
    assert threshold.false_alarms == pytest.approx(0.1, abs=0.03)
    assert threshold.detected > 0.9


def test_nothing_and_not_a_number_are_refused():
    with pytest.raises(ValueError, match="no pair to judge"):
        verdicts([])
    with pytest.raises(ValueError, match="not a finite number"):
        verdicts([PairScore("c", "s", float("nan"), 1.0)])
    with pytest.raises(ValueError, match="at least 2 sets, got 1"):
        calibrated([np.zeros((2, 2))])
