"""Keeps the beat of a control loop."""

from __future__ import annotations

import time
from collections.abc import Callable


class Metronome:
    """Waits until the next step is due; a late step is counted, not made up for.

    Args:
        period_seconds: from step to step.
        clock: seconds, never going back.
        sleep: waits for so many seconds.

    Attributes:
        num_late: steps that were due before they were done.
        worst_lateness_seconds: of any step.

    Raises:
        ValueError: if the period is not positive.
    """

    def __init__(
        self,
        period_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not period_seconds > 0:
            raise ValueError(f"period_seconds must be above 0, got {period_seconds}")
        self.period_seconds = period_seconds
        self.num_late, self.worst_lateness_seconds = 0, 0.0
        self._clock, self._sleep = clock, sleep
        self._due: float | None = None

    def wait(self) -> None:
        """Returns at the next beat; at once if it has passed, and counts anew from there."""
        if self._due is None:
            self._due = self._clock() + self.period_seconds
        left = self._due - self._clock()
        if left < 0:
            self.num_late += 1
            self.worst_lateness_seconds = max(self.worst_lateness_seconds, -left)
            self._due -= left
        else:
            self._sleep(left)
        self._due += self.period_seconds
