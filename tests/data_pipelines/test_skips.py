import logging

import pytest

from data_pipelines.batch import SkippedSample
from data_pipelines.skips import SkipCounter, TooManySkippedError


def test_skips_are_counted_by_key_and_reason():
    skips = SkipCounter(1.0)
    skips.count(4, [SkippedSample("a", "short"), SkippedSample("b", "short")])
    skips.count(4, [SkippedSample("a", "short")])
    assert (skips.num_seen, skips.num_skipped, skips.fraction) == (11, 3, 3 / 11)
    assert skips.reasons == {"short": 3} and skips.keys == {"a": 2, "b": 1}


def test_each_key_is_named_in_the_log_once(caplog):
    skips = SkipCounter(1.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            skips.count(1, [SkippedSample("kitchen/04", "the file is empty")])
    assert caplog.messages == ["skipped sample 'kitchen/04': the file is empty"]


def test_too_many_skips_stop_the_run_after_the_grace():
    skips = SkipCounter(0.1, grace_samples=100)
    for number in range(8):
        skips.count(10, [SkippedSample(f"k{number}", "bad"), SkippedSample("again", "worse")])
    with pytest.raises(TooManySkippedError, match=r"18 of 108 samples skipped.*: 'k0': bad; 'ag"):
        skips.count(10, [SkippedSample("last", "bad"), SkippedSample("again", "worse")])


def test_few_enough_skips_do_not_stop_the_run():
    skips = SkipCounter(0.1)
    for _ in range(50):
        skips.count(9, [SkippedSample("a", "bad")])
    assert skips.fraction == pytest.approx(0.1)


def test_a_fraction_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="max_skipped_fraction must be in"):
        SkipCounter(1.5)


def test_the_error_that_ends_a_run_lists_what_was_skipped_and_why():
    skips = SkipCounter(0.1, grace_samples=1)
    many = [SkippedSample(f"video{n:02d}", f"reason {n % 2}") for n in range(23)]
    with pytest.raises(TooManySkippedError) as caught:
        skips.count(10, many)
    message = str(caught.value)
    assert "23 of 33 samples skipped (23 different ones), more than max_skipped" in message
    assert all(f"'video{n:02d}': reason {n % 2}" in message for n in range(20))
    assert message.endswith("and 3 more, each named in the log") and "\n" not in message


def test_counts_survive_a_round_trip_and_add_up():
    first, second = SkipCounter(1.0), SkipCounter(1.0)
    first.count(4, [SkippedSample("a", "short"), SkippedSample("b", "cut")])
    second.count(3, [SkippedSample("a", "late")])
    second.add_state(first.state_dict())
    assert (second.num_seen, second.num_skipped) == (10, 3)
    assert second.keys == {"a": 2, "b": 1} and second.reasons == {"short": 1, "cut": 1, "late": 1}
    assert second.reason_of_key == {"a": "short", "b": "cut"}


def test_what_an_index_left_out_counts_once_and_against_the_budget():
    skips = SkipCounter(0.25)
    for _ in range(2):  # a resume tells of it again
        skips.leave_out({"a": "words"}, num_usable=3)
    assert skips.left_out == {"a": "words"} and skips.num_skipped == 0
    said = r"^2 of 5 samples cannot be used, more than max_skipped_fraction=0\.25: 'a': words; 'b'"
    with pytest.raises(TooManySkippedError, match=said):
        skips.leave_out({"a": "words", "b": "cut"}, num_usable=3)
