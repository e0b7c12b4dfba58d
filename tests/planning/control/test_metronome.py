import pytest

from planning.control.metronome import Metronome


class Clock:
    """Time that only passes when somebody sleeps or works."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def test_it_waits_for_what_is_left_of_the_period(clock):
    beat = Metronome(0.1, clock=clock, sleep=clock.sleep)
    beat.wait()
    clock.now += 0.03
    beat.wait()
    clock.now += 0.1
    beat.wait()
    assert clock.slept == [0.1, 0.07, 0.0]
    assert beat.num_late == 0


def test_a_late_step_is_counted_and_not_made_up_for(clock):
    beat = Metronome(0.1, clock=clock, sleep=clock.sleep)
    beat.wait()
    clock.now += 0.25
    beat.wait()  # at once
    beat.wait()  # a whole period later, not sooner
    assert clock.slept == [0.1, 0.1]
    assert beat.num_late == 1
    assert beat.worst_lateness_seconds == pytest.approx(0.15)


def test_on_the_whole_it_does_not_drift(clock):
    beat = Metronome(0.1, clock=clock, sleep=clock.sleep)
    for _ in range(50):
        clock.now += 0.013
        beat.wait()
    assert clock.now == pytest.approx(100 + 50 * 0.1 + 0.013)


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan")])
def test_a_period_that_is_not_positive_is_refused(period):
    with pytest.raises(ValueError, match="period_seconds must be above 0"):
        Metronome(period)
