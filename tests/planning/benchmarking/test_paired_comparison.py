import math

import pytest

from planning.benchmarking.paired_comparison import (
    PairedComparison,
    compare_runs,
    comparison_text,
)
from planning.benchmarking.run_folder import RunFolder


def test_tasks_are_counted_in_pairs():
    comparison = PairedComparison.of(
        [True, True, True, False, False], [True, False, False, True, False]
    )
    assert comparison == PairedComparison(both=1, only_a=2, only_b=1, neither=1)
    assert (comparison.num_tasks, comparison.difference) == (5, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        (0, 0, 1.0),  # nothing tells them apart
        (5, 5, 1.0),
        (1, 5, 2 * (1 + 6) / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (0, 8, 2 / 256),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemars_exact_test_equals_the_binomial_worked_out_by_hand(only_a, only_b, expected):
    assert PairedComparison(20, only_a, only_b, 7).p_value == pytest.approx(expected)


def test_tasks_that_both_or_neither_solved_do_not_change_the_test():
    assert PairedComparison(0, 1, 9, 0).p_value == PairedComparison(500, 1, 9, 80).p_value


def test_the_interval_is_that_of_a_table_from_the_literature():
    # Agresti, approval of a prime minister: 794, 150, 86, 570. Wald's interval is 0.021 to 0.059,
    # Tango's score interval 0.021 to 0.059; with n = 1600 all methods agree to a thousandth.
    low, high = PairedComparison(794, 150, 86, 570).interval
    assert (low, high) == (pytest.approx(0.0214, abs=1e-3), pytest.approx(0.0586, abs=1e-3))


def test_the_interval_turns_round_with_the_runs_and_holds_the_difference():
    for counts in ((10, 4, 1, 5), (0, 0, 20, 0), (20, 0, 0, 0), (0, 3, 0, 9)):
        both, only_a, only_b, neither = counts
        one = PairedComparison(*counts)
        other = PairedComparison(both, only_b, only_a, neither)
        assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
        low, high = one.interval
        assert -1 <= low <= one.difference <= high <= 1


def test_pairs_that_agree_tell_more_than_pairs_that_do_not():
    def width(comparison):
        return comparison.interval[1] - comparison.interval[0]

    agreeing = PairedComparison(80, 10, 5, 105)  # 90 and 85 of 200
    unrelated = PairedComparison(38, 52, 47, 63)  # the same rates
    assert agreeing.difference == pytest.approx(unrelated.difference)
    assert width(agreeing) < 0.7 * width(unrelated)


def test_without_correlation_the_interval_is_the_one_of_two_independent_shares():
    from planning.evaluation import wilson_interval

    comparison = PairedComparison(25, 25, 25, 25)
    low, high = wilson_interval(50, 100)
    half = math.hypot(0.5 - low, high - 0.5)
    assert comparison.interval == pytest.approx((-half, half))


def test_outcomes_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="need as many outcomes of each, got 2 and 1"):
        PairedComparison.of([True, False], [True])
    with pytest.raises(ValueError, match="got 0 and 0"):
        PairedComparison.of([], [])


def test_the_text_says_both_rates_the_counts_and_the_verdict():
    text = comparison_text(PairedComparison(50, 40, 5, 5), name_a="a", name_b="longer")
    assert "A  a       " in text and " 90%" in text and " 55%" in text
    assert "of 100 tasks: both 50, only A 40, only B 5, neither 5" in text
    assert "+35.0 points" in text and "they differ" in text
    assert "no difference is shown" in comparison_text(
        PairedComparison(50, 3, 3, 5), name_a="a", name_b="b"
    )


class Run(RunFolder):
    """A run whose episodes are given."""

    def episodes(self, policy):
        return self.summary["rows"]


@pytest.fixture
def run_of(tmp_path):
    def make(outcomes, **card):
        rows = [{"task": i, "is_success": outcome} for i, outcome in enumerate(outcomes)]
        facts = {"name": "few", "version": 1, "tasks_sha256": "ab", "sha256": "cd", **card}
        return Run(tmp_path, {"card": facts, "rows": rows})

    return make


def test_runs_on_the_same_card_are_compared_task_by_task(run_of):
    comparison = compare_runs(run_of([True, False, True]), run_of([True, True, True]))
    assert comparison == PairedComparison(2, 0, 1, 0)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"name": "many"}, "cannot be compared: card few .* and many"),
        ({"version": 2}, "cannot be compared: version 1 .* and 2"),
        ({"tasks_sha256": "xx"}, "cannot be compared: tasks ab"),
        ({"sha256": "xx"}, "cannot be compared: card file cd"),
    ],
)
def test_runs_on_different_cards_or_versions_are_refused(run_of, card, expected):
    with pytest.raises(ValueError, match=expected):
        compare_runs(run_of([True]), run_of([True], **card))


def test_runs_with_different_tasks_are_refused(run_of):
    with pytest.raises(ValueError, match=r"has 2 tasks and .* 1; evaluate both with the same"):
        compare_runs(run_of([True, False]), run_of([True]))
