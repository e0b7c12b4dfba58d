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
    with pytest.raises(TooManySkippedError, match=r"18 of 108 samples skipped.*first: key 'k0'"):
        skips.count(10, [SkippedSample("last", "bad"), SkippedSample("again", "worse")])


def test_few_enough_skips_do_not_stop_the_run():
    skips = SkipCounter(0.1)
    for _ in range(50):
        skips.count(9, [SkippedSample("a", "bad")])
    assert skips.fraction == pytest.approx(0.1)


def test_a_fraction_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="max_skipped_fraction must be in"):
        SkipCounter(1.5)
