"""A planner in a process of its own: it may hang, crash or be killed, and the loop goes on.

The loop only looks at futures. A thread of the loop's process talks to the planner's; what blocks,
blocks that thread, and a planner that says nothing for too long is killed. While it searches, it
tells of each better plan; who cannot wait takes the best so far, and the rest of the search is
called off. No restart: a planner that failed is a `SafeStop`, and who wants to go on makes a new
policy, deliberately.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.mpc import goal_distance
from planning.control.plan_worker import ImprovingFuture, PlanWorker
from planning.control.planning_ahead import (
    Answer,
    Closing,
    Flag,
    PlanningAhead,
    PlanRequest,
    Submit,
)
from planning.latent_world import LatentWorld
from planning.safety.safe_stop import SafeStop
from planning.types import Plan, Planner

START_SECONDS = 300.0  # until the world model is loaded
GIVE_UP_SECONDS = 10.0


@dataclass(frozen=True)
class PlannerRecipe:
    """What the planner's process is made of; all of it can be sent there.

    Attributes:
        make_world: loads the world model, there: a function of a module, or a `partial` of one,
            such as `partial(LatentWorld.load, folder)`.
        planner: chooses action sequences.
        goals: images, pursued one after the other.
        action_spec: of the world model's actions, see `joined_spec`.
        cost_of: makes the cost of a goal; None: the latent distance to it.
        arrival: when a goal counts as reached.
        seed: of the planner's samples.
        deadline_seconds: for each plan; None plans to the end.
        num_threads: of torch.
    """

    make_world: Callable[[], LatentWorld]
    planner: Planner
    goals: Sequence[np.ndarray]
    action_spec: ActionSpec
    cost_of: CostMaker | None = None
    arrival: ArrivalRule = WITHIN_ONE_STEP
    seed: int = 0
    deadline_seconds: float | None = None
    num_threads: int = 1

    def made(self, is_closing: Flag) -> PlanningAhead:
        """Loads everything; called in the planner's process.

        Args:
            is_closing: once it is set, a search ends at once.
        """
        torch.set_num_threads(self.num_threads)
        world = self.make_world()
        cost_of = self.cost_of or goal_distance()
        pursuit = GoalPursuit(world, self.goals, cost_of=cost_of, rule=self.arrival)
        return PlanningAhead(
            world, self.planner, pursuit, self.action_spec,
            generator=torch.Generator(device=world.device).manual_seed(self.seed),
            is_closing=is_closing, deadline_seconds=self.deadline_seconds,
            clock=time.monotonic,
        )  # fmt: skip


class PlanProcess:
    """One planner's process; `submit` is what `AsynchronousPolicy` wants as such.

    Use it in a `with` block, or call `close`. Python starts the process by "spawn", so a program
    that makes one at its top level must do so below `if __name__ == "__main__"`.

    Args:
        recipe: of the planner.
        give_up_seconds: a search that tells of no better plan for so long is ended: the process is
            killed.

    Raises:
        ValueError: if the time is not positive.
    """

    def __init__(self, recipe: PlannerRecipe, *, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        if not give_up_seconds > 0:
            raise ValueError(f"give_up_seconds must be above 0, got {give_up_seconds}")
        self.give_up_seconds = give_up_seconds
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Shared memory without a lock: a process that was killed or suspended holds none.
        self._called_off: Any = context.RawValue("q", -1)
        self._numbers = itertools.count()
        arguments = (recipe, theirs, self._called_off)
        self._child = context.Process(target=_serve, args=arguments, daemon=True)
        with _without_interrupts():
            self._child.start()
        theirs.close()
        self._is_ready = self._has_given_up = False
        self._worker: PlanWorker[PlanRequest, Answer] = PlanWorker()

    def __enter__(self) -> PlanProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Returns when the world model is loaded there.

        Raises:
            SafeStop: if it cannot be, or takes longer than `START_SECONDS`.
        """
        if not self._is_ready:
            self._answer_within(START_SECONDS, None, lambda answer: None)
            self._is_ready = True

    @property
    def process_id(self) -> int | None:
        """Of the planner's process."""
        return self._child.pid

    def submit(
        self, work: Callable[[PlanRequest], Answer], request: PlanRequest
    ) -> ImprovingFuture[Answer]:
        """Returns at once what will hold the answer, or a SafeStop; `work` is done there."""
        number = next(self._numbers)
        future: ImprovingFuture[Answer] = ImprovingFuture(partial(self._call_off, number))
        ask = partial(self._ask, number, future.offer)
        self._worker.submit(ask, request, into=future)
        return future

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._child.kill()
        self._child.join()
        self._worker.close(5.0)
        self._pipe.close()

    def _call_off(self, number: int) -> None:
        self._called_off.value = number

    def _ask(
        self, number: int, on_better: Callable[[Answer], None], request: PlanRequest
    ) -> Answer:
        """Sends a request and waits for the answer, in the thread that may wait."""
        self.wait_until_ready()
        plan = request.previous_plan
        plain = request._replace(previous_plan=plan and _with_arrays(plan))
        return self._answer_within(self.give_up_seconds, (number, plain), on_better)

    def _answer_within(
        self,
        seconds: float,
        asked: tuple[int, PlanRequest] | None,
        on_better: Callable[[Answer], None],
    ) -> Answer:
        """Returns the last answer to what is asked, and tells of those before."""
        try:
            with self._given_up_after(seconds):
                if asked is not None:
                    self._pipe.send(asked)
                told = self._received()
            while not told.is_last:
                on_better(told.answer)
                with self._given_up_after(seconds):
                    told = self._received()
            return told.answer
        except (EOFError, OSError):
            raise self._death(seconds) from None

    @contextlib.contextmanager
    def _given_up_after(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _received(self) -> _Told:
        told: _Told | SafeStop = self._pipe.recv()
        if isinstance(told, SafeStop):
            raise told
        if told.answer is None:  # it is ready, and was asked nothing yet
            return told
        record = told.answer.record
        record = replace(record, plan=_with_tensors(record.plan))
        return told._replace(answer=told.answer._replace(record=record))

    def _give_up(self) -> None:
        self._has_given_up = True
        self._child.kill()  # whoever waits for it reads the end of the pipe

    def _death(self, seconds: float) -> SafeStop:
        if self._has_given_up:
            return SafeStop("planner", f"it said nothing for {seconds:g} s and was ended")
        self._child.join(1.0)
        status = self._child.exitcode or 0
        end = f"signal {-status}" if status < 0 else f"status {status}"
        return SafeStop("planner", f"its process died ({end})")


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Lets a process begin deaf to Ctrl-C, which is for the loop; it ends the process."""
    if not hasattr(signal, "pthread_sigmask"):  # not POSIX
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def worker_of(
    recipe: PlannerRecipe | None, *, give_up_seconds: float | None = None
) -> Iterator[Submit | None]:
    """Yields what hands requests to a planner's process, once it is ready; None for no recipe.

    Args:
        recipe: of the planner.
        give_up_seconds: see `PlanProcess`. None: its default, and no less than twice the deadline.

    Raises:
        SafeStop: if the planner cannot be made.
    """
    if recipe is None:
        yield None
        return
    if give_up_seconds is None:
        give_up_seconds = max(GIVE_UP_SECONDS, 2 * (recipe.deadline_seconds or 0.0))
    with PlanProcess(recipe, give_up_seconds=give_up_seconds) as process:
        process.wait_until_ready()
        yield process.submit


class _Told(NamedTuple):
    """What the planner's process sends, unless it is a SafeStop."""

    answer: Any  # Answer, with arrays in place of tensors; None: it is ready
    is_last: bool


class _Server:
    """The planner's side of the pipe; called off when the shared number is that of the request."""

    def __init__(self, recipe: PlannerRecipe, pipe: Connection, called_off: Any) -> None:  # noqa: ANN401
        self._pipe, self._called_off, self._number = pipe, called_off, 0
        self._best: Answer | None = None
        self._ahead = recipe.made(self)

    def is_set(self) -> bool:
        """Returns whether nobody waits for this search any more."""
        return self._called_off.value >= self._number

    def serve_one(self) -> None:
        """Answers one request: with better and better plans, then with the last one."""
        request: PlanRequest
        self._number, request = self._pipe.recv()
        plan, self._best = request.previous_plan, None
        request = request._replace(previous_plan=plan and _with_tensors(plan))
        try:
            answer = self._ahead.answer(request, on_better=self._tell_better)
        except Closing:
            assert self._best is not None  # it was taken, so there is one
            answer = self._best
        self._tell(answer, is_last=True)

    def _tell_better(self, answer: Answer) -> None:
        self._best = answer
        self._tell(answer, is_last=False)

    def _tell(self, answer: Answer, *, is_last: bool) -> None:
        record = replace(answer.record, plan=_with_arrays(answer.record.plan))
        self._pipe.send(_Told(answer._replace(record=record), is_last))


def _serve(recipe: PlannerRecipe, pipe: Connection, called_off: Any) -> None:  # noqa: ANN401
    """Answers one request after the other, until the loop's process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop, which ends us
    with contextlib.suppress(EOFError, OSError):  # nobody listens any more
        try:
            server = _Server(recipe, pipe, called_off)
        except Exception as error:  # whatever it is, the loop must be told
            pipe.send(_as_stop(error))
            return
        pipe.send(_Told(None, is_last=True))
        while True:
            try:
                server.serve_one()
            except (EOFError, OSError):
                raise
            except Exception as error:  # likewise
                pipe.send(_as_stop(error))


def _as_stop(error: Exception) -> SafeStop:
    if isinstance(error, SafeStop):
        return error
    return SafeStop("planner", f"it raised {type(error).__name__}: {error}")


def _with_arrays(plan: Plan) -> Plan:
    """Returns a plan without tensors, which processes would share by way of files."""
    return _converted(plan, lambda x: x.cpu().numpy() if isinstance(x, torch.Tensor) else x)


def _with_tensors(plan: Plan) -> Plan:
    return _converted(plan, lambda x: torch.from_numpy(x) if isinstance(x, np.ndarray) else x)


def _converted(plan: Plan, change: Callable[[Any], Any]) -> Plan:
    values = {part.name: change(getattr(plan, part.name)) for part in fields(plan)}
    return Plan(**values)
