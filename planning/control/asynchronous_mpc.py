"""Plans while acting: the robot never waits for the planner.

A worker thread plans from where the robot will be when the plan is ready: it imagines the actions
that will be executed meanwhile, and plans from the end of that. What happens when a plan is late is
said by the stale-plan policy. The loop that owns the robot calls `AsynchronousPolicy` once per step
and gets an action at once: finite, inside the bounds, or an error that stops the loop.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.motion import Motion, StalePolicy
from planning.control.mpc import PlanRecord, goal_distance, joined_spec
from planning.control.plan_worker import ImprovingFuture, PlanWorker
from planning.control.planning_ahead import (
    Answer,
    PlanningAhead,
    PlanRequest,
    SeenFrame,
    Submit,
    Work,
)
from planning.control.recent_past import RecentPast
from planning.latent_world import LatentWorld
from planning.safety.observations import refuse_no_observation
from planning.types import Environment, Plan, Planner, TimeStep

logger = logging.getLogger(__name__)

REMEMBERED_DURATIONS = 5
CLOSING_SECONDS = 5.0


@dataclass
class LatenessCount:
    """How an episode went in time.

    Attributes:
        num_plans: plans that took over.
        num_waiting_steps: steps at the beginning, before there was any plan.
        num_late_plans: plans that were not there at the step for which they were asked.
        num_missed_steps: steps that had to be bridged because a plan was late or too short.
        num_discarded_plans: plans that came after the time they were made for.
        num_unfinished_plans: plans that took over before their search had gone to its end: at a
            deadline, or as the best so far of a planner's process.
        oldest_frame_steps: how old, at most, was the camera frame behind an executed action.
    """

    num_plans: int = 0
    num_waiting_steps: int = 0
    num_late_plans: int = 0
    num_missed_steps: int = 0
    num_discarded_plans: int = 0
    num_unfinished_plans: int = 0
    oldest_frame_steps: int = 0


class AsynchronousPolicy:
    """A policy that answers at once, with a planner working beside it.

    Holds the state of one episode, and a thread: use it in a `with` block, or call `close`. At the
    beginning, before there is any plan, it stands still: the zero action, and later binary grippers
    as they were. Each action is within the limits, seen from the one before.

    Args:
        world: the trained world model; only the worker uses it.
        planner: chooses action sequences.
        stale: what bridges the time when a plan is late: "continue" the old plan to its end, then
            stand still; "hold" the last action; "zero": stand still at once. "hold" suits actions
            that are places, not speeds.
        max_hold_steps: after so many held steps it stands still.
        lead_steps: environment steps from the camera frame to the plan's first action. None: as
            many as the slowest of the last plans took (without the first plan, once there are
            others), but no more than until the robot would stand still. Rounded up to a multiple of
            the steps that an action of the world model spans. Who stands still does not wait: a
            plan that is there begins.
        execute_steps: at least so many actions of each plan (of the world model) are executed.
        cost_of: makes the cost of a goal; None: the latent distance to it.
        goals: images, pursued one after the other; None: the environment's goal.
        arrival: when a goal counts as reached.
        seed: of the planner's samples.
        deadline_seconds: for each plan; None plans to the end.
        period_seconds: from step to step; None: as long as a step of the environment lasts.
        on_plan: is told of each plan that takes over.
        standstill: (action_dim,), the action that stands still; None: zero. Needed for choices and
            for binary grippers, which have no zero.
        clock: seconds; only for measuring how long plans take.
        submit: hands a request to a worker; None: a thread of its own. Where it returns an
            `ImprovingFuture`, as `PlanProcess` does, a plan that is late, or over its deadline, is
            the best so far. Who stands still without a deadline waits for the end of the search.

    Attributes:
        plans: one record per plan that took over.
        latent_distances: to the goal, of each frame that was planned from.
        lateness: counts of what came late.

    Raises:
        ValueError: if a setting is not known or out of range.
    """

    def __init__(
        self,
        world: LatentWorld,
        planner: Planner,
        *,
        stale: StalePolicy = "continue",
        max_hold_steps: int = 10,
        lead_steps: int | None = None,
        execute_steps: int = 1,
        cost_of: CostMaker | None = None,
        goals: Sequence[np.ndarray] | None = None,
        arrival: ArrivalRule = WITHIN_ONE_STEP,
        seed: int = 0,
        deadline_seconds: float | None = None,
        period_seconds: float | None = None,
        on_plan: Callable[[PlanRecord], None] | None = None,
        standstill: Sequence[float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        submit: Submit | None = None,
    ) -> None:
        _refuse_settings(stale, lead_steps, execute_steps, planner.horizon, deadline_seconds)
        self.world, self.planner, self.stale = world, planner, stale
        self.max_hold_steps, self.lead_steps = max_hold_steps, lead_steps
        self.execute_steps, self.deadline_seconds = execute_steps, deadline_seconds
        self.plans: list[PlanRecord] = []
        self.latent_distances: list[float] = []
        self.lateness = LatenessCount()
        self._cost_of = cost_of or goal_distance()
        self._goals, self._arrival, self._on_plan = goals, arrival, on_plan
        self._period, self._clock = period_seconds, clock
        self._generator = torch.Generator(device=world.device).manual_seed(seed)
        self._is_closing = threading.Event()
        self._worker = PlanWorker() if submit is None else None
        self._submit: Submit = submit or self._worker_submit
        self._future: Future[Answer] | None = None
        self._request: PlanRequest | None = None  # whose plan has not taken over
        self._asked_at = 0.0  # seconds
        self._waited = 0.0  # so long, before the best so far was taken
        self._answer: Answer | None = None  # to it, once it is there
        self._error: BaseException | None = None  # what the worker raised
        self._motion = Motion(stale, max_hold_steps, standstill)
        self._first_seconds = 0.0  # of the first plan, which is slower than others: all is cold
        self._durations: deque[float] = deque(maxlen=REMEMBERED_DURATIONS)
        self._pursuit: GoalPursuit | None = None
        self._ahead: PlanningAhead | None = None  # the worker's side
        self._has_arrived, self._reached_distance = False, arrival.distance
        self._num_steps = 0
        self._num_moved = 0  # steps since the requested plan could begin, that did not stand still
        self._executes_until = 0  # the step from which another plan may take over
        self._frame_step = 0  # the step of the camera frame behind it
        self._past: RecentPast[SeenFrame] = RecentPast(world)

    def __enter__(self) -> AsynchronousPolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker: a plan that is being made stops at its next round.

        Waits at most `CLOSING_SECONDS`; a warning tells if the worker is busy even then.
        """
        self._is_closing.set()
        if self._worker is not None and not self._worker.close(CLOSING_SECONDS):
            logger.warning(
                "the planner is still busy %g s after it was told to end; its thread goes on until "
                "its rollout is done",
                CLOSING_SECONDS,
            )

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action at once.

        Raises:
            Exception: what the worker raised, for example NotFiniteStop for NaN costs; at
                every call from then on.
            SafeStop: if the time step is none.
            RuntimeError: if the policy was closed.
            ValueError: if the environment's actions do not say what stands still.
        """
        if self._is_closing.is_set():
            raise RuntimeError("this policy was closed; make a new one for each episode")
        if self._error is not None:
            raise self._error
        refuse_no_observation(time_step)
        self._begin(environment)
        self._receive()
        self._ask(time_step)
        if self._future is not None and self._future.done():
            self._receive()  # a worker that answers at once
        action = self._next_action()
        self._past.add(SeenFrame(self._num_steps, time_step), action)
        self._num_steps += 1
        return action

    def has_arrived(self, environment: Environment, time_step: TimeStep) -> bool:
        """True if the last frame that was planned from shows the last goal."""
        return self._has_arrived

    def observe(self, time_step: TimeStep) -> None:
        """Nothing: frames are seen by the worker, when it plans, or remembers them."""

    @property
    def reached_distance(self) -> float | None:
        """The latent distance that counts as reached; None before it was needed."""
        return self._reached_distance

    def stop_action(self) -> np.ndarray:
        """What the robot is told when the loop ends: the last action to "hold", else rest."""
        return self._motion.bridge()

    def _begin(self, environment: Environment) -> None:
        if self._pursuit is not None:
            return
        if self._period is None:
            self._period = 1 / environment.frames_per_second
        spec = joined_spec(self.world, environment, period_seconds=self._period)
        self._motion.begin(environment.action_spec)
        goals = self._goals if self._goals is not None else [environment.goal.frame]
        self._pursuit = GoalPursuit(self.world, goals, cost_of=self._cost_of, rule=self._arrival)
        self._ahead = PlanningAhead(
            self.world,
            self.planner,
            self._pursuit,
            spec,
            generator=self._generator,
            is_closing=self._is_closing,
            deadline_seconds=self.deadline_seconds,
            clock=self._clock,
        )

    def _ask(self, time_step: TimeStep) -> None:
        """Sends the worker its next request, if it is free and it is time."""
        assert self._ahead is not None
        if self._request is not None:
            return
        step, lead = self._num_steps, self._lead()
        if step + lead < self._executes_until:
            return
        pending, moving = self._motion.upcoming(lead)
        previous, executed = self._warm_start(step + lead)
        before = self._motion.before
        self._request = PlanRequest(
            time_step, step, pending, step + lead, previous, executed, before, moving,
            self._past.past(),
        )  # fmt: skip
        self._num_moved, self._asked_at, self._waited = 0, time.monotonic(), 0.0
        self._future = self._submit(self._ahead.answer, self._request)

    def _lead(self) -> int:
        if not self.plans:
            return 0  # it stands still until there is a first plan
        lead = self.lead_steps
        if lead is None:
            assert self._period is not None
            slowest = max(self._durations or (self._first_seconds,))
            lead = self._motion.steps_until_still(max(1, math.ceil(slowest / self._period)))
        per_action = self.world.action_steps.num_steps  # it imagines whole actions only
        return math.ceil(lead / per_action) * per_action

    def _warm_start(self, begins_at_step: int) -> tuple[Plan | None, int]:
        if not self.plans:
            return None, 0
        record, per_action = self.plans[-1], self.world.action_steps.num_steps
        assert record.begins_at_step is not None
        executed = (begins_at_step - record.begins_at_step) // per_action
        return (record.plan, executed) if 0 <= executed <= self.planner.horizon else (None, 0)

    def _receive(self) -> None:
        """Lets a plan take over when it is there and its time has come."""
        request = self._request
        if request is None:
            return
        late = self._num_steps - request.begins_at_step
        stands_still = self._num_steps >= request.step + request.moving_steps
        if self._is_due(late, stands_still=stands_still):
            self._settle()
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            self._error = future.exception()
            if self._error is not None:
                raise self._error  # here, in the loop, what the worker raised
            self._note(future.result())
        if self._answer is not None and (late >= 0 or stands_still):
            (record, *_), self._answer, self._request = self._answer, None, None
            self._take_over(record, request)
        elif self.plans:
            self.lateness.num_late_plans += late == 0
            self._motion.is_late = late >= 0

    def _is_due(self, late: int, *, stands_still: bool) -> bool:
        """Returns whether the best so far must do: a plan is late, or over its deadline."""
        deadline = self.deadline_seconds
        if deadline is not None and time.monotonic() - self._asked_at >= deadline:
            return late >= 0 or stands_still
        return late >= 0 and not stands_still

    def _settle(self) -> None:
        if isinstance(self._future, ImprovingFuture) and self._future.settle():
            self._waited = time.monotonic() - self._asked_at

    def _note(self, answer: Answer) -> None:
        """Remembers what the worker saw, at once; the plan itself may have to wait."""
        self._answer = answer
        seconds = max(answer.seconds, self._waited)  # what was cut short does not shorten leads
        if self.plans:
            self._durations.append(seconds)
        else:
            self._first_seconds = seconds
        self._has_arrived, self._reached_distance = answer.has_arrived, answer.reached_distance
        self.latent_distances.append(answer.record.latent_distance)

    def _take_over(self, record: PlanRecord, request: PlanRequest) -> None:
        per_action = self.world.action_steps.num_steps
        actions = self.world.action_steps.split(record.plan.actions.cpu()).numpy()
        # Who stood still meanwhile is where the plan begins; of other steps the time has passed.
        skipped = self._num_moved
        if skipped >= len(actions):
            self.lateness.num_discarded_plans += 1
            return
        self._motion.follow(actions[skipped:])
        begins = self._num_steps - skipped
        record = PlanRecord(**{**vars(record), "begins_at_step": begins})
        self.plans.append(record)
        self.lateness.num_plans += 1
        self.lateness.num_unfinished_plans += not record.plan.is_finished
        num_kept = min(self.execute_steps * per_action, len(actions) - skipped)
        self._executes_until, self._frame_step = self._num_steps + num_kept, request.step
        if self._on_plan is not None:
            self._on_plan(record)

    def _next_action(self) -> np.ndarray:
        action, is_planned = self._motion.advance()
        request, count = self._request, self.lateness
        if request is not None and self._num_steps >= request.step + request.moving_steps:
            self._num_moved += not self._motion.is_still
        if not self.plans:
            count.num_waiting_steps += 1
        else:
            count.num_missed_steps += not is_planned or self._motion.is_late
            age = self._num_steps - self._frame_step
            count.oldest_frame_steps = max(count.oldest_frame_steps, age)
        return action

    def _worker_submit(self, work: Work, request: PlanRequest) -> Future[Answer]:
        assert self._worker is not None
        return self._worker.submit(work, request)


def _refuse_settings(
    stale: StalePolicy,
    lead_steps: int | None,
    execute_steps: int,
    horizon: int,
    deadline_seconds: float | None,
) -> None:
    if stale not in get_args(StalePolicy):
        allowed = ", ".join(map(repr, get_args(StalePolicy)))
        raise ValueError(f"stale must be one of {allowed}, got {stale!r}")
    if lead_steps is not None and lead_steps < 0:
        raise ValueError(f"lead_steps must be at least 0, got {lead_steps}")
    if not 1 <= execute_steps <= horizon:
        raise ValueError(
            f"execute_steps must be from 1 to the horizon {horizon}, got {execute_steps}"
        )
    if deadline_seconds is not None and not deadline_seconds > 0:
        raise ValueError(f"deadline_seconds must be above 0, got {deadline_seconds}")
