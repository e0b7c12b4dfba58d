import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassRecall

from jepa.evaluation.anticipation.heads import TASKS
from jepa.evaluation.anticipation.recall import (
    always_the_most_frequent,
    certain,
    choose_probe,
    class_mean_recall,
    guesses,
    official_maxima,
    recall_of,
    score,
)

SIZES = {"verb": 7, "noun": 9, "action": 20}


def random_logits(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    return {task: rng.normal(size=(num_rows, count)) for task, count in SIZES.items()}


def random_labels(num_rows, seed=1):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, count, num_rows) for count in SIZES.values()], axis=1)


def slow_class_mean_recall(scores, labels, top):
    recalls = []
    for label in sorted(set(labels.tolist())):
        rows = [row for row, own in zip(scores, labels, strict=True) if own == label]
        found = [label in sorted(range(len(row)), key=lambda i: -row[i])[:top] for row in rows]
        recalls.append(sum(found) / len(found))
    return sum(recalls) / len(recalls)


@pytest.mark.parametrize("top", [1, 5])
def test_class_mean_recall_is_that_of_a_slow_loop(top):
    scores, labels = random_logits(60)["action"], random_labels(60)[:, 2]
    expected = slow_class_mean_recall(scores, labels, top)
    assert class_mean_recall(scores, labels, top=top) == pytest.approx(expected)


@pytest.mark.parametrize("top", [1, 5])
def test_class_mean_recall_is_the_macro_recall_of_torchmetrics(top):
    scores, labels = random_logits(200)["verb"], random_labels(200)[:, 0]
    assert len(set(labels)) == SIZES["verb"]
    metric = MulticlassRecall(SIZES["verb"], top_k=top, average="macro")
    expected = float(metric(torch.from_numpy(scores), torch.from_numpy(labels)))
    assert class_mean_recall(scores, labels, top=top) == pytest.approx(expected, abs=1e-6)


def test_rare_classes_count_as_much_as_frequent_ones_and_absent_ones_not_at_all():
    # class 0: 9 of 9 found, class 1: 0 of 1, classes 2 and 3 do not occur
    labels = np.array([0] * 9 + [1])
    scores = np.tile([3.0, 0.0, 2.0, 1.0], (10, 1))
    assert class_mean_recall(scores, labels, top=1) == pytest.approx(0.5)
    assert (labels == scores.argmax(1)).mean() == 0.9


@pytest.mark.parametrize(("num_classes", "top"), [(97, 5), (6, 5), (5, 4), (4, 3), (2, 1), (1, 1)])
def test_as_many_guesses_are_allowed_as_can_still_miss(num_classes, top):
    assert guesses(num_classes) == top


def test_intervals_hold_the_value_and_are_wider_for_fewer_videos():
    logits, labels = random_logits(240), random_labels(240)
    many = score(logits, labels, np.arange(240) // 3, num_resamples=200)["action"]
    few = score(logits, labels, np.arange(240) // 48, num_resamples=200)["action"]
    assert many.recall.value == few.recall.value == recall_of(logits, labels, "action")
    assert many.recall.low <= many.recall.value <= many.recall.high
    assert many.top == 5 and many.num_classes == 20
    assert many.accuracy == pytest.approx((logits["action"].argmax(1) == labels[:, 2]).mean())


def test_a_video_is_drawn_as_a_whole():
    # Two videos: all right in one, all wrong in the other. Drawing rows would never give 0 or 1.
    labels = np.zeros((40, 3), np.int64)
    right = np.repeat([True, False], 20)
    logits = {task: np.where(right[:, None], [1.0, 0.0], [0.0, 1.0]) for task in TASKS}
    found = score(logits, labels, (~right).astype(int), num_resamples=100)["verb"].recall_at_1
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)


def test_the_probe_that_anticipates_actions_best_is_chosen():
    labels = random_labels(50)
    poor = random_logits(50)
    good = dict(poor, action=certain(labels, SIZES)["action"])
    assert choose_probe([poor, good, good], labels) == 1


def test_equal_actions_are_told_apart_by_verbs_and_nouns():
    labels = random_labels(50)
    poor = random_logits(50)
    better = dict(poor, verb=certain(labels, SIZES)["verb"])
    assert choose_probe([poor, better], labels) == 1


def test_the_official_maxima_need_not_be_of_one_probe():
    labels, perfect = random_labels(50), certain(random_labels(50), SIZES)
    first, second = random_logits(50, 2), random_logits(50, 3)
    first["verb"], second["action"] = perfect["verb"], perfect["action"]
    maxima = official_maxima([first, second], labels)
    assert maxima["verb"] == maxima["action"] == 1.0
    assert maxima["noun"] == max(recall_of(each, labels, "noun") for each in (first, second))
    chosen = (first, second)[choose_probe([first, second], labels)]
    assert recall_of(chosen, labels, "verb") < maxima["verb"]


def test_chance_names_the_most_frequent_classes_of_training():
    training = np.array([[2, 0, 5]] * 3 + [[1, 0, 5]] * 2 + [[2, 1, 4]])
    logits = always_the_most_frequent(training, SIZES, 4)
    assert {task: int(rows.argmax(1)[3]) for task, rows in logits.items()} == {
        "verb": 2, "noun": 0, "action": 5,
    }  # fmt: skip
    assert (-logits["verb"][0]).argsort()[:3].tolist() == [2, 1, 0]
    # five of seven balanced verbs are named: recall@5 is 5/7
    labels = np.repeat(np.arange(7)[:, None], 3, axis=1)
    chance = always_the_most_frequent(training, SIZES, 7)
    assert class_mean_recall(chance["verb"], labels[:, 0], top=5) == pytest.approx(5 / 7)


def test_a_certain_guesser_is_right_or_not_at_all():
    labels = random_labels(30)
    logits = certain(labels, SIZES)
    assert class_mean_recall(logits["action"], labels[:, 2], top=5) == 1.0
    assert class_mean_recall(logits["action"], (labels[:, 2] + 1) % 20, top=5) == 0.0
