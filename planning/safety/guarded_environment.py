"""The last gate in front of a robot: what goes in is limited, what comes out is looked at.

NOT safety-rated, see `docs/planning.md`: the limits that protect people belong into the robot.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planning.actions.standstill import ROUNDING, standing_still
from planning.safety.black_box import BlackBox
from planning.safety.enable_signal import EnableSignal
from planning.safety.observations import USUAL_LIMITS, ObservationGuard, ObservationLimits
from planning.safety.robot_limits import LastFilter, RobotLimits
from planning.safety.safe_stop import SafeStop, tell_beside
from planning.safety.timed_calls import TimedCalls
from planning.types import Environment, TimeStep

LOCK_SECONDS = 1.0


class GuardedEnvironment:
    """An environment that stops, and stays stopped, when something is not as it should be.

    Stopping is one action towards standing still, sent at once, and `SafeStop`. From then on it is
    latched: only what brings the robot to rest is sent, until `reset_stop` is called, deliberately.

    Args:
        environment: the robot, or a simulator. One with `drives_hardware = True` is refused
            without `limits`, and its frames must say when they were captured.
        limits: besides the bounds of the actions.
        observations: how old, and how often the same, a frame may be.
        standstill: (action_dim,), the action that stands still; None: zero.
        enable: a signal that must be held; None: there is none.
        black_box: where each step is noted.
        max_step_seconds: a reset or step that takes longer is a fault. It then runs in a thread of
            its own, and is left behind there. None: as long as it takes.
        clock: seconds, that of the frames.

    Attributes:
        action_spec: the environment's, with the smaller `max_change` of the two.
        is_guarded: True; whoever runs episodes asks for it where hardware is driven.
        stopped: why it is latched; None: it is not.
        on_command: is called after each command that was sent and answered, such as
            `Watchdog.feed`.

    Raises:
        ValueError: if the robot has no limits, they do not fit, or nothing says what stands still.
    """

    is_guarded = True

    def __init__(
        self,
        environment: Environment,
        *,
        limits: RobotLimits | None = None,
        observations: ObservationLimits = USUAL_LIMITS,
        standstill: Sequence[float] | None = None,
        enable: EnableSignal | None = None,
        black_box: BlackBox | None = None,
        max_step_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        is_robot = self._is_robot = bool(getattr(environment, "drives_hardware", False))
        if is_robot and limits is None:
            raise ValueError(
                f"{environment.name} drives hardware: a robot without limits is refused; give "
                "limits=RobotLimits(max_change=..., workspace=...)"
            )
        spec = environment.action_spec
        self._filter = LastFilter(spec, limits, environment.state_names)
        self._at_first = np.array(np.zeros(spec.dim) if standstill is None else standstill)
        self.action_spec = self._filter.spec
        self._can_stand = spec.kind != "one_hot" or standstill is not None
        if is_robot or standstill is not None:
            standing_still(spec, last=None, standstill=standstill)
        self._environment, self._standstill, self._enable = environment, standstill, enable
        self._seen = ObservationGuard(observations, needs_time=is_robot, clock=clock)
        self._calls, self._black_box, self._clock = TimedCalls(max_step_seconds), black_box, clock
        self._lock = threading.RLock()
        self._last: np.ndarray | None = None
        self._shown: TimeStep | None = None
        self.stopped: SafeStop | None = None
        self.on_command: Callable[[], object] = _nothing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Returns what the environment has."""
        return getattr(self._environment, name)

    @property
    def num_changed_actions(self) -> int:
        """Actions that were not sent as they were asked for."""
        return self._filter.num_changed

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode.

        Raises:
            SafeStop: if it is latched, or the environment fails.
        """
        with self._lock:
            if self.stopped is not None:
                raise self._latched()
            self._seen.forget()
            self._last = None
            return self._shown_by(
                "reset", lambda: self._environment.reset(generator, start=start, goal=goal)
            )

    def step(self, action: np.ndarray) -> TimeStep:
        """Sends an action, inside all limits.

        While it is latched, the next action on the way to rest is sent instead; who asks for
        anything farther from rest gets a SafeStop as well.

        Raises:
            SafeStop: if the action is no action, or what the environment shows cannot be trusted.
        """
        with self._lock:
            if self.stopped is not None:
                return self._come_to_rest(action)
            if self._shown is None:
                raise RuntimeError("call reset before the first step")
            try:
                if self._enable is not None:
                    self._enable.check()
                self._seen.check_age()
                last = self._at_first if self._last is None else self._last
                sent = self._filter(action, last=last, state=self._shown.state)
            except SafeStop as stop:
                self._latch(stop)
                raise
            self._last = sent
            shown = self._shown_by("step", lambda: self._environment.step(sent), asked=action)
            self.on_command()
            return shown

    def halt(self, stop: SafeStop) -> None:
        """Stops the robot from another thread, such as a watchdog's.

        Where a step hangs, nothing can be sent; it is latched all the same.
        """
        if self.stopped is None:
            self.stopped = stop
        if self._lock.acquire(timeout=LOCK_SECONDS):
            try:
                self._note(stop=str(stop))
                self._brake()
            finally:
                self._lock.release()

    def reset_stop(self) -> None:
        """Allows motion again: the deliberate act of a person. An episode begins with `reset`."""
        with self._lock:
            self.stopped, self._shown, self._last = None, None, None
            self._seen.forget()

    def _shown_by(
        self, verb: str, call: Callable[[], TimeStep], *, asked: np.ndarray | None = None
    ) -> TimeStep:
        """Calls the environment and looks at what it shows."""
        name = self._environment.name
        try:
            shown = self._calls.call(call, what=f"{verb} of {name}")
            self._seen.check(shown)
            self._filter.refuse_outside(shown.state)
        except SafeStop as stop:
            self._latch(stop)
            raise
        except Exception as error:  # whatever a driver or a simulator raises: named, and stopped
            stop = SafeStop("environment", f"{verb} of {name} raised {type(error).__name__}: "
                            f"{error}")  # fmt: skip
            self._latch(stop)
            if not self._is_robot:  # a simulator's fault is told as it came
                raise
            raise stop from error
        self._shown = shown
        self._note(asked=asked, frame=zlib.crc32(shown.frame.tobytes()), state=shown.state)
        if self.stopped is not None:  # from another thread, while it was stepping
            self._brake()
            raise self.stopped
        return shown

    def _latch(self, stop: SafeStop) -> None:
        self.stopped = stop
        self._note(stop=str(stop))
        self._brake()

    def _brake(self) -> None:
        """Sends one action towards rest to a robot that was told to move."""
        if self._last is None or not self._can_stand or (self._shown and self._shown.is_last):
            return
        sent = self._towards_rest(self._last)
        try:
            self._calls.call(lambda: self._environment.step(sent), what="stopping")
            self._last = sent
            self._note()
        except Exception as error:  # why it was stopped must be raised, not this
            trouble = f"the robot may still be moving: stopping failed: {error}"
            self._note(trouble=trouble)
            tell_beside(self.stopped, trouble)

    def _come_to_rest(self, action: np.ndarray) -> TimeStep:
        """Goes on braking; returns what was seen last to who asks for nothing else."""
        last = self._last
        if last is None or not self._can_stand:
            raise self._latched()
        rest = standing_still(self.action_spec, last=last, standstill=self._standstill)
        asked = np.asarray(action)
        is_stopping = asked.shape == rest.shape and bool(
            (np.abs(asked - rest) <= np.abs(last - rest) + 1e-6).all()
        )
        if not np.array_equal(last, rest):
            self._brake()
        if not is_stopping or self._shown is None:
            raise self._latched()
        return self._shown

    def _towards_rest(self, last: np.ndarray) -> np.ndarray:
        rest = standing_still(self.action_spec, last=last, standstill=self._standstill)
        change = self._filter.max_change + ROUNDING  # 0.2 in float32 is a little more than 0.2
        return self.action_spec.validate(np.clip(rest, last - change, last + change), last)

    def _latched(self) -> SafeStop:
        why = "" if self.stopped is None else self.stopped.detail
        return SafeStop("latched", f"{why}; call reset_stop() to move again")

    def _note(self, **content: Any) -> None:  # noqa: ANN401
        if self._black_box is not None:
            seconds = round(self._clock(), 4)
            self._black_box.note(seconds=seconds, sent=_listed(self._last),
                                 **{k: _listed(v) for k, v in content.items()})  # fmt: skip


def _listed(value: Any) -> Any:  # noqa: ANN401
    return np.round(value, 5).tolist() if isinstance(value, np.ndarray) else value


def _nothing(*told: object) -> None:
    """Nobody wants to know."""
