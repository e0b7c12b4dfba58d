"""A thread that stops the robot when no command comes. NOT safety-rated."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from planning.safety.safe_stop import SafeStop

MAX_SILENT_PERIODS = 3


class Watchdog:
    """Watches for silence from the first command on; it barks once, then waits for `rearm`.

    Use it in a `with` block, or call `close`. It is a thread of the program that it watches: it
    sees a planner that hangs, not a computer that does.

    Args:
        period_seconds: in which commands are expected, one each.
        halt: is told when too many periods went by without one; called in the watchdog's thread.
        max_silent_periods: so many may.
        clock: seconds, never going back.

    Attributes:
        silent_seconds: how long it had been silent when it barked; NaN before.

    Raises:
        ValueError: if the period is not positive and finite, or no period may be silent.
    """

    def __init__(
        self,
        period_seconds: float,
        halt: Callable[[SafeStop], object],
        *,
        max_silent_periods: int = MAX_SILENT_PERIODS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < period_seconds < math.inf or max_silent_periods < 1:
            raise ValueError(
                "period_seconds must be positive and finite and max_silent_periods at least 1, "
                f"got {period_seconds} and {max_silent_periods}"
            )
        self.patience_seconds = period_seconds * max_silent_periods
        self.silent_seconds = math.nan
        self._halt, self._clock = halt, clock
        self._fed: float | None = None
        self._has_barked = self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def feed(self) -> None:
        """A valid command was sent."""
        with self._changed:
            is_first, self._fed = self._fed is None, self._clock()
            if is_first:
                self._changed.notify()

    def rearm(self) -> None:
        """Watches again, from the next command on."""
        with self._changed:
            self._fed, self._has_barked, self.silent_seconds = None, False, math.nan

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._waits_for_silence():
            silent = self.silent_seconds
            self._halt(SafeStop("silence", f"no valid command for {silent:.3g} s, at most "
                                f"{self.patience_seconds:.3g} s may be silent"))  # fmt: skip

    def _waits_for_silence(self) -> bool:
        """Returns True when it is to bark, False when it is closed."""
        with self._changed:
            while not self._is_closing:
                if self._fed is None or self._has_barked:
                    self._changed.wait()
                    continue
                silent = self._clock() - self._fed
                if silent > self.patience_seconds:
                    self._has_barked, self.silent_seconds = True, silent
                    return True
                self._changed.wait(self.patience_seconds - silent + 1e-4)
            return False
