"""A planner in a process of its own: it may hang, crash or be killed, and the loop goes on.

The loop only looks at futures. A thread of the loop's process talks to the planner's; what blocks,
blocks that thread, and a planner that says nothing for too long is killed. No restart: a planner
that failed is a `SafeStop`, and who wants to go on makes a new policy, deliberately.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.mpc import goal_distance
from planning.control.plan_worker import PlanWorker
from planning.control.planning_ahead import Answer, PlanningAhead, PlanRequest
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

    def made(self) -> PlanningAhead:
        """Loads everything; called in the planner's process."""
        torch.set_num_threads(self.num_threads)
        world = self.make_world()
        cost_of = self.cost_of or goal_distance()
        pursuit = GoalPursuit(world, self.goals, cost_of=cost_of, rule=self.arrival)
        return PlanningAhead(
            world, self.planner, pursuit, self.action_spec,
            generator=torch.Generator(device=world.device).manual_seed(self.seed),
            is_closing=threading.Event(), deadline_seconds=self.deadline_seconds,
            clock=time.monotonic,
        )  # fmt: skip


class PlanProcess:
    """One planner's process; `submit` is what `AsynchronousPolicy` wants as such.

    Use it in a `with` block, or call `close`. Python starts the process by "spawn", so a program
    that makes one at its top level must do so below `if __name__ == "__main__"`.

    Args:
        recipe: of the planner.
        give_up_seconds: a plan that takes longer is none: the process is killed.

    Raises:
        ValueError: if the time is not positive.
    """

    def __init__(self, recipe: PlannerRecipe, *, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        if not give_up_seconds > 0:
            raise ValueError(f"give_up_seconds must be above 0, got {give_up_seconds}")
        self.give_up_seconds = give_up_seconds
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(recipe, theirs), daemon=True)
        self._child.start()
        theirs.close()
        self._is_ready = self._has_given_up = False
        self._worker: PlanWorker[PlanRequest, Answer] = PlanWorker()

    def __enter__(self) -> PlanProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Of the planner's process."""
        return self._child.pid

    def submit(self, work: Callable[[PlanRequest], Answer], request: PlanRequest) -> Future[Answer]:
        """Returns at once what will hold the answer, or a SafeStop; `work` is done there."""
        return self._worker.submit(self._ask, request)

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._child.kill()
        self._child.join()
        self._worker.close(5.0)
        self._pipe.close()

    def _ask(self, request: PlanRequest) -> Answer:
        """Sends a request and waits for the answer, in the thread that may wait."""
        if not self._is_ready:
            self._answer_within(START_SECONDS, None)
            self._is_ready = True
        plan = request.previous_plan
        plain = request._replace(previous_plan=plan and _with_arrays(plan))
        record, has_arrived, seconds = self._answer_within(self.give_up_seconds, plain)
        return Answer(replace(record, plan=_with_tensors(record.plan)), has_arrived, seconds)

    def _answer_within(self, seconds: float, request: PlanRequest | None) -> Any:  # noqa: ANN401
        timer = threading.Timer(seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death(seconds) from None
        finally:
            timer.cancel()
        if isinstance(answer, SafeStop):
            raise answer
        return answer

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


def _serve(recipe: PlannerRecipe, pipe: Connection) -> None:
    """Answers one request after the other, until the loop's process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop, which ends us
    with contextlib.suppress(EOFError, OSError):  # nobody listens any more
        try:
            ahead = recipe.made()
        except Exception as error:  # whatever it is, the loop must be told
            pipe.send(_as_stop(error))
            return
        pipe.send("ready")
        while True:
            request: PlanRequest = pipe.recv()
            plan = request.previous_plan
            request = request._replace(previous_plan=plan and _with_tensors(plan))
            try:
                answer = ahead.answer(request)
                told = replace(answer.record, plan=_with_arrays(answer.record.plan))
                pipe.send(answer._replace(record=told))
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
