"""One thread that plans, so that the loop that owns the robot never waits; improving answers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class ImprovingFuture(Future[AnswerT], Generic[AnswerT]):
    """Holds the best answer so far, until there is the last one or this one is taken.

    Args:
        on_settled: is called once the best so far has been taken: nobody waits any more.
    """

    def __init__(self, on_settled: Callable[[], None]) -> None:
        super().__init__()
        self._on_settled = on_settled
        self._best: AnswerT | None = None

    @property
    def best(self) -> AnswerT | None:
        """The best so far; None before there is any."""
        return self._best

    def offer(self, answer: AnswerT) -> None:
        """Takes a better answer, from the worker's side."""
        self._best = answer

    def settle(self) -> bool:
        """Makes the best so far the result, and returns whether there was one."""
        best = self._best
        if best is None or self.done():
            return False
        try:
            self.set_result(best)
        except InvalidStateError:  # the last answer came this very moment
            return False
        self._on_settled()
        return True


class PlanWorker(Generic[RequestT, AnswerT]):
    """One daemon thread that does one piece of work at a time."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[RequestT], AnswerT],
        request: RequestT,
        *,
        into: Future[AnswerT] | None = None,
    ) -> Future[AnswerT]:
        """Returns what will hold the answer, or the error; what is asked waits in a queue.

        Args:
            work: makes the answer, in the thread.
            request: what is asked.
            into: what is to hold it; None: a new one.
        """
        future: Future[AnswerT] = Future() if into is None else into

        def task() -> None:
            with suppress(InvalidStateError):  # the best so far was taken
                try:
                    answer = work(request)
                except BaseException as error:  # is raised again in the loop that owns the robot
                    future.set_exception(error)
                else:
                    future.set_result(answer)

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
