"""Whether what the camera shows can be acted upon: whole, finite, new, and of now."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from planning.safety.safe_stop import SafeStop
from planning.types import TimeStep


@dataclass(frozen=True)
class ObservationLimits:
    """How old a frame may be, and how often the same.

    Attributes:
        max_age_seconds: from the capture of a frame until an action is sent that follows from it.
        max_future_seconds: by how much a capture may lie ahead of our clock.
        max_identical_frames: so many frames in a row may be equal to the last pixel; None: any
            number. For cameras that tell no time; a simulator shows equal frames at a wall.

    Raises:
        ValueError: if a number is out of range.
    """

    max_age_seconds: float = 0.2
    max_future_seconds: float = 0.01
    max_identical_frames: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_age_seconds < math.inf:
            raise ValueError(f"max_age_seconds must be above 0, got {self.max_age_seconds}")
        if not 0 <= self.max_future_seconds < math.inf:
            raise ValueError(
                f"max_future_seconds must be at least 0, got {self.max_future_seconds}"
            )
        if self.max_identical_frames is not None and self.max_identical_frames < 1:
            raise ValueError(
                f"max_identical_frames must be at least 1, got {self.max_identical_frames}"
            )


USUAL_LIMITS = ObservationLimits()


class ObservationGuard:
    """Looks at every time step of an episode before anything is made of it.

    A frame whose `captured_seconds` is that of the one before, or earlier, is a frozen camera or a
    queue out of order. Only the monotonic clock is asked: nobody can set it.

    Args:
        limits: on age and repetition.
        needs_time: refuse frames that do not say when they were captured.
        clock: seconds, that of `captured_seconds`.
    """

    def __init__(
        self,
        limits: ObservationLimits = USUAL_LIMITS,
        *,
        needs_time: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.needs_time, self._clock = limits, needs_time, clock
        self.forget()

    def forget(self) -> None:
        """Begins anew: the next time step is the first."""
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._captured: float | None = None
        self._checksum, self._num_identical = -1, 0

    def check(self, time_step: TimeStep) -> None:
        """Takes note of a time step.

        Raises:
            SafeStop: "observation", if it is none, changed its shape, or is not new and of now.
        """
        refuse_no_observation(time_step)
        shapes = time_step.frame.shape, time_step.state.shape
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            _stop(f"frame and state had shapes {self._shapes}, now {shapes}")
        self._check_time(time_step.captured_seconds)
        if self.limits.max_identical_frames is not None:
            self._check_change(time_step.frame)

    def check_age(self) -> None:
        """Raises SafeStop if the frame that was noted last is too old by now."""
        if self._captured is None:
            return
        age = self._clock() - self._captured
        if age > self.limits.max_age_seconds:
            _stop(f"the frame is {age:.3g} s old, at most {self.limits.max_age_seconds:g} s may be")

    def _check_time(self, captured: float | None) -> None:
        if captured is None:
            if self.needs_time or self._captured is not None:
                _stop("the frame does not say when it was captured; give captured_seconds")
            return
        if not math.isfinite(captured):
            _stop(f"captured_seconds must be finite, got {captured}")
        if self._captured is not None and captured <= self._captured:
            known = "again the one before" if captured == self._captured else "older than the last"
            _stop(f"the frame is {known}: captured at {captured:.6f} s, the last at "
                  f"{self._captured:.6f} s")  # fmt: skip
        ahead = captured - self._clock()
        if ahead > self.limits.max_future_seconds:
            _stop(f"the frame is from the future, by {ahead:.3g} s; use time.monotonic()")
        self._captured = captured
        self.check_age()

    def _check_change(self, frame: np.ndarray) -> None:
        checksum = zlib.crc32(np.ascontiguousarray(frame).tobytes())
        self._num_identical = self._num_identical + 1 if checksum == self._checksum else 1
        self._checksum = checksum
        if self._num_identical > (self.limits.max_identical_frames or 0):
            _stop(f"{self._num_identical} frames in a row are equal to the last pixel")


def refuse_no_observation(time_step: TimeStep) -> None:
    """Raises SafeStop if this is no time step with a picture and finite numbers."""
    if not isinstance(time_step, TimeStep):
        _stop(f"a TimeStep was expected, got {type(time_step).__name__}")
    frame, state = time_step.frame, time_step.state
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
        _stop(f"the frame must be (height, width, 3) uint8, got {_described(frame)}")
    if frame.shape[2] != 3 or not frame.size:
        _stop(f"the frame must be (height, width, 3) uint8, got {_described(frame)}")
    if not isinstance(state, np.ndarray) or state.ndim != 1 or state.dtype.kind not in "fiu":
        _stop(f"the state must be (state_dim,) numbers, got {_described(state)}")
    if not np.isfinite(state).all():
        _stop(f"the state must be finite, got {state.tolist()}")


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    return type(value).__name__


def _stop(detail: str) -> NoReturn:
    raise SafeStop("observation", detail)
