import numpy as np
import pytest

from jepa.evaluation.probes import Features, linear_probe


def rows(seed, *, num_rows, noise):
    """Tokens whose mean is a linear mix of the targets."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(7).normal(size=(2, 6))
    targets = generator.normal(size=(num_rows, 2))
    tokens = (targets @ mix)[:, None] + noise * generator.normal(size=(num_rows, 4, 6))
    return Features(tokens, targets)


def test_a_linear_target_is_read_off_exactly():
    score = linear_probe(rows(0, num_rows=200, noise=0.0), rows(1, num_rows=100, noise=0.0))
    assert score.metric == "R2"
    assert score.pooled > 0.999 and score.all_tokens > 0.999


def test_a_target_that_the_features_do_not_hold_scores_like_chance():
    train, test = rows(0, num_rows=500, noise=0.0), rows(1, num_rows=200, noise=0.0)
    shuffled = Features(np.random.default_rng(2).permutation(train.tokens), train.targets)
    score = linear_probe(shuffled, test)
    assert abs(score.pooled) < 0.1
    assert score.chance == pytest.approx(0.0, abs=0.02)


def test_r2_by_hand_when_the_probe_can_only_guess_the_mean():
    train = Features(np.zeros((4, 1, 1)), np.array([[0.0], [2.0], [0.0], [2.0]]))
    test = Features(np.zeros((2, 1, 1)), np.array([[0.0], [4.0]]))
    # prediction 1, residuals 1 and 9, variance around 2: 4 and 4; 1 - 10 / 8
    assert linear_probe(train, test).pooled == pytest.approx(-0.25)


def test_the_mean_token_cannot_tell_where_and_all_tokens_can():
    generator = np.random.default_rng(0)

    def one_hot_places(num_rows):
        place = generator.integers(0, 8, num_rows)
        return Features(np.eye(8)[place][:, :, None], place[:, None].astype(float))

    score = linear_probe(one_hot_places(400), one_hot_places(200))
    assert score.pooled < 0.05
    assert score.all_tokens > 0.99


def test_classes_are_told_apart_and_chance_is_the_most_frequent_one():
    generator = np.random.default_rng(0)
    labels = np.array(["left", "right", "left", "left"] * 25)
    tokens = generator.normal(size=(100, 3, 2)) + 9.0 * (labels == "left")[:, None, None]
    score = linear_probe(Features(tokens, labels), Features(tokens, labels))
    assert score.metric == "top-1"
    assert score.pooled == 1.0
    assert score.chance == 0.75


def test_too_few_rows_or_classes_are_refused():
    one = Features(np.zeros((1, 1, 1)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="at least 2 rows to train and to test on, got 1 and 1"):
        linear_probe(one, one)
    alike = Features(np.zeros((3, 1, 1)), np.array(["cat"] * 3))
    with pytest.raises(ValueError, match=r"at least 2 classes, got \['cat'\]"):
        linear_probe(alike, alike)
