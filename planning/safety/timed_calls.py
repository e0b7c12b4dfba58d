"""Calls that may hang: in a thread that can be left behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from planning.safety.safe_stop import SafeStop

ResultT = TypeVar("ResultT")


class TimedCalls:
    """Calls functions one after the other, all in one thread if there is a limit of time.

    Args:
        max_seconds: of each call; None: they are called where they are, and may take any time.

    Raises:
        ValueError: if the limit is not positive.
    """

    def __init__(self, max_seconds: float | None) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise ValueError(f"max_step_seconds must be above 0, got {max_seconds}")
        self.max_seconds = max_seconds
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_hung = False

    def call(self, work: Callable[[], ResultT], *, what: str) -> ResultT:
        """Returns what `work` returns, and raises what it raises.

        Args:
            work: what to do.
            what: its name, for the error.

        Raises:
            SafeStop: "environment", if it takes too long, or one before still does.
        """
        if self.max_seconds is None:
            return work()
        if self._is_hung:
            raise SafeStop("environment", f"{what} was not tried: a call before it still hangs")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="environment", daemon=True)
            self._thread.start()
        results: queue.SimpleQueue[tuple[ResultT | None, BaseException | None]]
        results = queue.SimpleQueue()

        def task() -> None:
            try:
                results.put((work(), None))
            except BaseException as error:  # raised again where it was called
                results.put((None, error))

        self._tasks.put(task)
        try:
            result, error = results.get(timeout=self.max_seconds)
        except queue.Empty:
            self._is_hung = True
            raise SafeStop("environment", f"{what} took more than {self.max_seconds:g} s") from None
        if error is not None:
            raise error
        return result  # pyright: ignore

    def _run(self) -> None:
        while True:
            self._tasks.get()()
