"""One thread that plans, so that the loop which owns the robot never waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class PlanWorker(Generic[RequestT, AnswerT]):
    """One daemon thread that does one piece of work at a time."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[RequestT], AnswerT], request: RequestT) -> Future[AnswerT]:
        """Returns what will hold the answer, or the error; what is asked waits in a queue."""
        future: Future[AnswerT] = Future()

        def task() -> None:
            try:
                future.set_result(work(request))
            except BaseException as error:  # is raised again in the loop that owns the robot
                future.set_exception(error)

        self._tasks.put(task)
        return future

    def close(self, seconds: float) -> bool:
        """Lets the thread end after its work, waits so long, and returns whether it has."""
        self._tasks.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
