"""The last gate: what it stops, how it stops, and that it stays stopped."""

import threading
import time

import numpy as np
import pytest

from planning.control.mpc import run_episode
from planning.safety.black_box import BlackBox, read_black_box
from planning.safety.guarded_environment import GuardedEnvironment
from planning.safety.observations import ObservationLimits
from planning.safety.safe_stop import SafeStop
from planning.safety.watchdog import Watchdog


@pytest.fixture
def guarded(hand, clock, robot_limits):
    """The hand behind its gate, after three steps at 0.2 m/step."""

    def make(**options):
        guard = GuardedEnvironment(hand, limits=robot_limits, clock=clock, **options)
        guard.reset(None, start=None, goal=None)
        for _ in range(3):
            guard.step(np.array([0.2, 0.0]))
        return guard

    return make


def test_a_robot_without_limits_is_refused_and_a_simulator_is_not(hand):
    with pytest.raises(ValueError, match="hand drives hardware: a robot without limits is refused"):
        GuardedEnvironment(hand)
    hand.drives_hardware = False
    GuardedEnvironment(hand, clock=hand.clock).reset(None, start=None, goal=None)


def test_limits_are_applied_last_whoever_asks(guarded, hand):
    guard = guarded()
    guard.step(np.array([1e308, -1e308]))
    assert hand.sent[-1] == pytest.approx([0.3, -0.1], abs=1e-6)  # room to brake before the wall
    assert guard.num_changed_actions == 1


@pytest.mark.parametrize(
    ("action", "match"),
    [
        (np.array([np.nan, 0]), "action must be finite"),
        (np.zeros(3), r"action must be \(2,\) numbers, got \(3,\) float64"),
        (None, "numbers, got"),
    ],
)
def test_what_is_no_action_stops_the_robot_at_once(guarded, hand, action, match):
    guard, before = guarded(), len(hand.sent)
    with pytest.raises(SafeStop, match=match):
        guard.step(action)
    assert [sent.tolist() for sent in hand.sent[before:]] == [[0.0, 0.0]]


def test_a_stop_is_latched_until_it_is_reset_and_brakes_within_the_limits(guarded, hand):
    guard = guarded()
    guard.step(np.array([0.4, 0.1]))
    with pytest.raises(SafeStop):
        guard.step(np.array([np.nan, 0.0]))
    assert hand.sent[-1] == pytest.approx([0.0, 0.0], abs=0.21)
    for _ in range(3):
        with pytest.raises(SafeStop, match=r"stopped \(latched\): .*call reset_stop\(\)"):
            guard.step(np.array([0.4, 0.0]))
    with pytest.raises(SafeStop, match="latched"):
        guard.reset(None, start=None, goal=None)
    assert hand.sent[-1] == pytest.approx([0.0, 0.0])
    num_sent = len(hand.sent)
    guard.step(np.zeros(2))  # who asks for rest is told nothing, and nothing more is sent
    assert len(hand.sent) == num_sent
    guard.reset_stop()
    guard.reset(None, start=None, goal=None)
    guard.step(np.array([0.1, 0.0]))
    assert hand.sent[-1] == pytest.approx([0.1, 0.0])


def test_the_loop_of_an_episode_comes_to_rest_behind_the_gate(hand, clock, robot_limits):
    guard = GuardedEnvironment(hand, limits=robot_limits, clock=clock)

    def policy(environment, time_step, generator):
        return np.array([0.4, 0.0]) if len(hand.sent) < 2 else np.array([np.inf, 0.0])

    with pytest.raises(SafeStop):
        run_episode(guard, policy, start=None, goal=None, generator=np.random.default_rng(0),
                    stop_action=lambda: np.zeros(2))  # fmt: skip
    assert np.round(hand.sent, 4)[:, 0].tolist() == pytest.approx([0.2, 0.4, 0.2, 0.0])


# Observations.


def test_an_action_that_took_too_long_to_choose_is_not_sent(guarded, clock, hand):
    guard = guarded()
    clock.now += 0.3
    num_sent = len(hand.sent)
    with pytest.raises(SafeStop, match=r"the frame is 0.3 s old, at most 0.2 s may be"):
        guard.step(np.array([0.2, 0.0]))
    assert [sent.tolist() for sent in hand.sent[num_sent:]] == [[0, 0]]


def test_what_counts_as_old_and_as_the_future_is_a_setting(guarded, clock, hand):
    guard = guarded(observations=ObservationLimits(max_age_seconds=0.5, max_future_seconds=1.0))
    clock.now += 0.4
    hand.answer = lambda shown: shown._replace(captured_seconds=clock() + 0.9)
    guard.step(np.array([0.2, 0.0]))


def test_equal_pictures_of_a_camera_without_time_stop_it_by_option(hand, clock):
    hand.drives_hardware = hand.tells_time = False
    hand.answer = lambda shown: shown._replace(frame=np.ones((2, 2, 3), np.uint8))
    limits = ObservationLimits(max_identical_frames=10)
    guard = GuardedEnvironment(hand, observations=limits, clock=clock)
    guard.reset(None, start=None, goal=None)
    for _ in range(10):
        guard.step(np.array([0.01, 0.0]))
    with pytest.raises(SafeStop, match="11 frames in a row are equal to the last pixel"):
        guard.step(np.array([0.01, 0.0]))


# The environment itself.


def test_an_environment_that_raises_is_named_and_stopped(guarded, hand):
    guard = guarded()

    def broken(shown):
        hand.answer = None
        raise OSError("the line is dead")

    hand.answer = broken
    with pytest.raises(SafeStop, match=r"\(environment\): step of hand raised OSError: the line"):
        guard.step(np.array([0.2, 0.0]))
    assert hand.sent[-1].tolist() == [0, 0]


def test_a_step_that_hangs_is_left_behind_in_time(guarded, hand, caplog):
    guard, release = guarded(max_step_seconds=0.2), threading.Event()
    hand.answer = lambda shown: release.wait(60)
    began = time.monotonic()
    with pytest.raises(SafeStop, match=r"step of hand took more than 0.2 s"):
        guard.step(np.array([0.2, 0.0]))
    release.set()
    assert time.monotonic() - began < 5
    assert "the robot may still be moving: stopping failed" in caplog.text


def test_a_robot_that_is_outside_of_its_workspace_is_stopped(guarded, hand):
    guard = guarded()
    hand.answer = lambda shown: shown._replace(state=np.array([3.0, 0.0], np.float32))
    with pytest.raises(SafeStop, match=r"\(workspace\)"):
        guard.step(np.array([0.2, 0.0]))


# Enable signal, watchdog, black box.


def test_a_silent_loop_is_stopped_by_the_watchdog_after_three_periods(hand, clock, robot_limits):
    """Seen to fail with `Watchdog._run` emptied: after five seconds nothing had stopped it."""
    guard = GuardedEnvironment(hand, limits=robot_limits, clock=clock)
    guard.reset(None, start=None, goal=None)
    with Watchdog(0.02, guard.halt) as watchdog:
        guard.on_command = watchdog.feed
        guard.step(np.array([0.2, 0.0]))
        began = time.monotonic()
        while guard.stopped is None and time.monotonic() - began < 5:
            time.sleep(0.001)
    assert guard.stopped is not None and guard.stopped.reason == "silence"
    assert 0.06 < watchdog.silent_seconds < 1
    assert hand.sent[-1].tolist() == [0, 0]
    with pytest.raises(SafeStop, match="latched"):
        guard.step(np.array([0.2, 0.0]))


def test_the_black_box_tells_what_was_asked_sent_and_why_it_stopped(tmp_path, guarded):
    with BlackBox(tmp_path / "box", num_records=8) as box:
        guard = guarded(black_box=box)
        guard.step(np.array([9.0, 0.0]))
        with pytest.raises(SafeStop):
            guard.step(np.array([np.nan, 0.0]))
        records = read_black_box(tmp_path / "box")
    assert records[4]["asked"] == [9.0, 0.0] and records[4]["sent"] == pytest.approx([0.3, 0.0])
    assert "action must be finite" in records[5]["stop"]
