import numpy as np
import pytest

from jepa.evaluation.world_model_card.verdict import (
    Interval,
    NotMeasured,
    intervals_of,
    mean_interval,
    ratio_between_sets,
    ratio_interval,
)


def test_a_ratio_is_that_of_the_sums_and_episodes_are_drawn_together():
    easy_and_hard = np.array([1.0, 10.0, 3.0, 7.0])
    assert ratio_interval(2 * easy_and_hard, easy_and_hard, seed=0) == (2.0, 2.0, 2.0)


def test_a_ratio_over_nothing_is_very_large_and_of_nothing_is_zero():
    zeros, ones = np.zeros(4), np.ones(4)
    assert ratio_interval(ones, zeros, seed=0).low > 1e6
    assert ratio_interval(zeros, zeros, seed=0) == (0.0, 0.0, 0.0)


def test_a_ratio_between_sets_compares_means_of_sets_of_any_size():
    generator = np.random.default_rng(0)
    many, few = generator.normal(6, 1, 200), generator.normal(2, 0.5, 50)
    found = ratio_between_sets(many, few, seed=0)
    assert found.value == pytest.approx(many.mean() / few.mean())
    draws = [
        generator.choice(many, 200).mean() / generator.choice(few, 50).mean() for _ in range(2000)
    ]  # each set by itself
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.02)


def test_a_ratio_between_alike_sets_holds_one():
    values = np.random.default_rng(1).uniform(1, 2, 60)
    low, high = ratio_between_sets(values[:30], values[30:], seed=0)[1:]
    assert low < 1 < high


def test_a_mean_of_equal_numbers_is_sure():
    assert mean_interval(np.full(5, 0.25), seed=3) == (0.25, 0.25, 0.25)


def test_intervals_become_rows():
    rows = intervals_of((Interval(2, 1, 3), Interval(5, 4, 6)))
    assert rows.tolist() == [[2, 1, 3], [5, 4, 6]]


def test_what_is_not_measured_says_why():
    assert NotMeasured.because("no data").verdict == ("not measurable", "no data")
