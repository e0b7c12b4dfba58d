"""Silence is noticed in time, once; who is fed in time hears nothing."""

import time

import pytest

from planning.safety.watchdog import Watchdog


def waits_for(condition, seconds=5.0):
    began = time.monotonic()
    while not condition() and time.monotonic() - began < seconds:
        time.sleep(0.001)
    return condition()


def test_it_barks_once_after_three_silent_periods_and_again_when_rearmed():
    """Seen to fail with `Watchdog._run` emptied: it never barks."""
    barked = []
    with Watchdog(0.01, barked.append) as watchdog:
        time.sleep(0.05)
        assert barked == []  # no command yet, so none is missing
        watchdog.feed()
        assert waits_for(lambda: barked)
        assert watchdog.silent_seconds > 0.03 and barked[0].reason == "silence"
        watchdog.feed()
        time.sleep(0.05)
        assert len(barked) == 1
        watchdog.rearm()
        watchdog.feed()
        assert waits_for(lambda: len(barked) == 2)


def test_commands_in_time_keep_it_silent():
    now, barked = [0.0], []
    with Watchdog(0.1, barked.append, clock=lambda: now[0]) as watchdog:
        for _ in range(20):
            watchdog.feed()
            now[0] += 0.29
    assert barked == []


@pytest.mark.parametrize("period", [0, -1, float("nan"), float("inf")])
def test_a_period_that_is_none_is_refused(period):
    with pytest.raises(ValueError, match="period_seconds must be positive and finite"):
        Watchdog(period, print)
