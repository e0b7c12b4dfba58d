"""A robot behind its last gate: no frame, no lost enable signal and no action gets past it.

The gate is looked at from outside: by what the robot was sent.
"""

import os

import numpy as np
import pytest

from planning.actions.limits import NormLimit
from planning.actions.space import ActionSpec
from planning.safety.enable_signal import EnableSignal
from planning.safety.guarded_environment import GuardedEnvironment
from planning.safety.observations import ObservationLimits
from planning.safety.robot_limits import LastFilter
from planning.safety.safe_stop import RefusedAction, SafeStop
from tests.planning.safety.hand import LIMITS, Clock, Hand

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
SPEC = ActionSpec(
    ("dx", "dy"), ("metre/step",) * 2, (-0.5, -0.5), (0.5, 0.5),
    norm_limits=(NormLimit(("dx", "dy"), 0.6),),
)  # fmt: skip
OBSERVATION_FAULTS = {
    "frozen": lambda shown, clock: shown._replace(captured_seconds=clock() - 0.1),
    "reordered": lambda shown, clock: shown._replace(captured_seconds=clock() - 0.15),
    "stale": lambda shown, clock: shown._replace(captured_seconds=clock() + _later(clock, 0.25)),
    "an hour late": lambda shown, clock: shown._replace(captured_seconds=clock() - 3600),
    "an hour early": lambda shown, clock: shown._replace(captured_seconds=clock() + 3600),
    "timeless": lambda shown, clock: shown._replace(captured_seconds=None),
    "no time": lambda shown, clock: shown._replace(captured_seconds=float("nan")),
    "None": lambda shown, clock: None,
    "a dictionary": lambda shown, clock: {"image": shown.frame},
    "NaN": lambda shown, clock: shown._replace(state=np.array([np.nan, 0], np.float32)),
    "float frame": lambda shown, clock: shown._replace(frame=shown.frame / 255),
    "channels first": lambda shown, clock: shown._replace(frame=shown.frame.transpose(2, 0, 1)),
    "other size": lambda shown, clock: shown._replace(frame=np.zeros((4, 4, 3), np.uint8)),
    "no frame": lambda shown, clock: shown._replace(frame=None),
}


def _later(clock, seconds):
    """Lets time go by after the capture; returns how far the clock is ahead of it."""
    clock.now += seconds
    return -seconds


@pytest.mark.parametrize("num_times", [5, pytest.param(100, marks=LONG)])
@pytest.mark.parametrize("fault", OBSERVATION_FAULTS)
def test_a_frame_that_cannot_be_trusted_stops_the_robot_within_one_tick_each_time(fault, num_times):
    """Seen to fail with `ObservationGuard.check` taken out: the robot then goes on to its goal."""
    hand = Hand(clock := Clock())
    for number in range(num_times):
        hand.sent, hand.answer = [], None
        guard = GuardedEnvironment(hand, limits=LIMITS, clock=clock)
        guard.reset(None, start=None, goal=None)
        for _ in range(1 + number % 5):
            guard.step(np.array([0.1, 0.0]))
        hand.answer = lambda shown: OBSERVATION_FAULTS[fault](shown, clock)
        num_sent = len(hand.sent)
        with pytest.raises(SafeStop) as told:
            guard.step(np.array([0.1, 0.0]))
        assert told.value.reason == "observation"
        assert len(hand.sent) == num_sent + 2 and hand.sent[-1].tolist() == [0, 0]
        with pytest.raises(SafeStop, match="latched"):
            guard.step(np.array([0.1, 0.0]))


@pytest.mark.parametrize("num_times", [5, pytest.param(100, marks=LONG)])
def test_a_lost_enable_signal_latches_each_time(num_times):
    """Seen to fail with `EnableSignal.check` taken out: it moves on without anybody's hand."""
    hand = Hand(clock := Clock())
    for number in range(num_times):
        enable = EnableSignal(clock=clock)
        guard = GuardedEnvironment(hand, limits=LIMITS, clock=clock, enable=enable,
                                   observations=ObservationLimits(max_age_seconds=9))  # fmt: skip
        guard.reset(None, start=None, goal=None)
        with pytest.raises(SafeStop, match="the enable signal was never given"):
            guard.step(np.array([0.1, 0.0]))
        enable.reset()
        guard.reset_stop()
        guard.reset(None, start=None, goal=None)
        for _ in range(1 + number % 7):
            enable.renew()
            guard.step(np.array([0.1, 0.0]))
        clock.now += 0.401 + 0.01 * number  # with the step's 0.1 s more than half a second
        with pytest.raises(SafeStop, match=r"\(enable\): the enable signal was lost"):
            guard.step(np.array([0.1, 0.0]))
        assert hand.sent[-1].tolist() == [0, 0]
        enable.renew()  # too late: only a reset helps
        assert not enable.is_held
        with pytest.raises(SafeStop, match="latched"):
            guard.step(np.array([0.1, 0.0]))


def asked_for(generator):
    """Any action: usual, huge, tiny, of another type; now and then none at all."""
    values = [0.0, 5e-324, -5e-324, 1e-40, 1e308, -1e308, 3.5e38, 1e9, -0.3, 0.5, -0.5]
    kind = generator.integers(6)
    if kind < 2:
        return generator.choice(values, 2)
    if kind == 2:
        return generator.normal(size=2) * 10.0 ** generator.integers(-3, 6)
    if kind == 3:
        return generator.normal(size=2).astype(generator.choice(["f2", "f4", "f8", "i8", "i1"]))
    if kind == 4:  # pushes always into the same corner
        return np.array([1e9, 1e9])
    return [
        np.array([np.nan, 0.0]), np.array([0.0, np.inf]), np.zeros(3), np.zeros((1, 2)),
        np.array(["a", "b"]), np.array([None, 1.0]), np.array([1j, 0]), None, 0.5, [],
    ][generator.integers(10)]  # fmt: skip


@pytest.mark.parametrize("num_actions", [300, pytest.param(10_000, marks=LONG)])
def test_whatever_is_asked_what_is_sent_keeps_box_norm_rate_and_workspace(
    num_actions,
):
    """Seen to fail without the braking distance: it goes 0.1 m beyond its wall."""
    last_filter = LastFilter(SPEC, LIMITS, ("x", "y"))
    generator, last, place, num_refused = np.random.default_rng(0), np.zeros(2), np.zeros(2), 0
    for _ in range(num_actions):
        try:
            sent = last_filter(asked_for(generator), last=last, state=place)
        except RefusedAction:
            num_refused += 1
            continue
        assert sent.dtype == np.float32 and sent.shape == (2,) and np.isfinite(sent).all()
        assert (np.abs(sent) <= 0.5).all() and np.linalg.norm(sent) <= 0.6 + 1e-6
        assert (np.abs(sent - last) <= np.array([0.2, 0.1]) + 1e-6).all()
        place, last = place + sent, sent
        assert (place >= [-1 - 1e-5, -0.5 - 1e-5]).all() and (place <= [1 + 1e-5, 2 + 1e-5]).all()
    assert num_refused > num_actions / 10 and last_filter.num_changed > num_actions / 3
