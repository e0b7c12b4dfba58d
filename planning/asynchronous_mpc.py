"""Plans while acting: the robot never waits for the planner.

A worker thread plans from where the robot will be when the plan is ready: it imagines the actions
that will be executed meanwhile, and plans from the end of that. What happens when a plan is late is
said by the stale-plan policy. The loop that owns the robot calls `AsynchronousPolicy` once per step
and gets an action at once: finite, inside the bounds, or an error that stops the loop.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from planning.action_space import ActionSpec
from planning.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.latent_world import LatentWorld
from planning.model_actions import model_actions
from planning.mpc import (
    PlanRecord,
    goal_distance,
    imagined_distances,
    joined_spec,
    refuse_not_finite,
)
from planning.types import Cost, Environment, Latent, Plan, Planner, TimeStep

StalePolicy = Literal["continue", "hold", "zero"]
REMEMBERED_DURATIONS = 5
CLOSING_SECONDS = 5.0


class PlanRequest(NamedTuple):
    """What the worker is asked.

    Attributes:
        time_step: what the camera sees at `step`.
        step: environment steps executed before that.
        pending: (steps, action_dim), what will be executed before the plan begins.
        begins_at_step: environment step of the plan's first action.
        previous_plan: the plan received last, for a warm start.
        executed_steps: of its actions that will have passed by then, in actions of the model.
        previous_action: what was executed last, if nothing is pending.
    """

    time_step: TimeStep
    step: int
    pending: np.ndarray
    begins_at_step: int
    previous_plan: Plan | None
    executed_steps: int
    previous_action: np.ndarray | None


class Answer(NamedTuple):
    """What the worker returns.

    Attributes:
        record: the plan.
        has_arrived: the camera saw the last goal.
        seconds: from the request to the answer.
    """

    record: PlanRecord
    has_arrived: bool
    seconds: float


Work = Callable[[PlanRequest], Answer]
Submit = Callable[[Work, PlanRequest], "Future[Answer]"]


@dataclass
class LatenessCount:
    """How an episode went in time.

    Attributes:
        num_plans: plans that took over.
        num_waiting_steps: steps at the beginning, before there was any plan.
        num_late_plans: plans that were not there at the step for which they were asked.
        num_missed_steps: steps that had to be bridged because a plan was late or too short.
        num_discarded_plans: plans that came after the time they were made for.
        oldest_frame_steps: how old, at most, was the camera frame behind an executed action.
    """

    num_plans: int = 0
    num_waiting_steps: int = 0
    num_late_plans: int = 0
    num_missed_steps: int = 0
    num_discarded_plans: int = 0
    oldest_frame_steps: int = 0


class AsynchronousPolicy:
    """A policy that answers at once, with a planner working beside it.

    Holds the state of one episode, and a thread: use it in a `with` block, or call `close`. At the
    beginning, before there is any plan, it stands still (the zero action).

    Args:
        world: the trained world model; only the worker uses it.
        planner: chooses action sequences.
        stale: what bridges the time when a plan is late: "continue" the old plan to its end, then
            stand still; "hold" the last action; "zero": stand still at once. "hold" suits actions
            that are places, not speeds.
        max_hold_steps: after so many held steps it stands still.
        lead_steps: environment steps from the camera frame to the plan's first action. None: as
            many as the slowest of the last plans took.
        execute_steps: at least so many actions of each plan (of the world model) are executed.
        cost_of: makes the cost of a goal; None: the latent distance to it.
        goals: images, pursued one after the other; None: the environment's goal.
        arrival: when a goal counts as reached.
        seed: of the planner's samples.
        deadline_seconds: for each plan; None plans to the end.
        period_seconds: from step to step; None: as long as a step of the environment lasts.
        on_plan: is told of each plan that takes over.
        clock: seconds; only for measuring how long plans take.
        submit: hands a request to a worker; None: a thread of its own.

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
        self._worker = _Worker() if submit is None else None
        self._submit: Submit = submit or self._worker_submit
        self._future: Future[Answer] | None = None
        self._request: PlanRequest | None = None  # whose plan has not taken over
        self._answer: Answer | None = None  # to it, once it is there
        self._motion = _Motion(stale, max_hold_steps)
        self._durations: deque[float] = deque(maxlen=REMEMBERED_DURATIONS)
        self._pursuit: GoalPursuit | None = None
        self._spec: ActionSpec | None = None  # of the world model's actions, here
        self._has_arrived = False
        self._num_steps = 0
        self._took_over_at = 0  # the step at which the plan began to be executed
        self._frame_step = 0  # the step of the camera frame behind it

    # ------------------------------------------------------------------ the loop's side

    def __enter__(self) -> AsynchronousPolicy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker: a plan that is being made stops at its next round."""
        self._is_closing.set()
        if self._worker is not None:
            self._worker.close()

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action at once.

        Raises:
            Exception: what the worker raised, for example FloatingPointError for NaN costs.
        """
        self._begin(environment)
        self._receive()
        self._ask(time_step)
        action = environment.action_spec.validate(self._next_action())
        self._num_steps += 1
        return action

    def has_arrived(self, environment: Environment, time_step: TimeStep) -> bool:
        """True if the last frame that was planned from shows the last goal."""
        return self._has_arrived

    def observe(self, time_step: TimeStep) -> None:
        """Nothing: frames are seen by the worker, when it plans."""

    @property
    def reached_distance(self) -> float | None:
        """The latent distance that counts as reached; None before it was needed."""
        return None if self._pursuit is None else self._pursuit.known_reached_distance

    def stop_action(self) -> np.ndarray:
        """What the robot is told when the loop fails: the last action to "hold", else zero."""
        return self._motion.bridge()

    def _begin(self, environment: Environment) -> None:
        if self._pursuit is not None:
            return
        self._spec = joined_spec(self.world, environment)
        self._motion.standstill = environment.action_spec.validate(
            np.zeros(environment.action_spec.dim)
        )
        if self._period is None:
            self._period = 1 / environment.frames_per_second
        goals = self._goals if self._goals is not None else [environment.goal.frame]
        self._pursuit = GoalPursuit(self.world, goals, cost_of=self._cost_of, rule=self._arrival)

    def _ask(self, time_step: TimeStep) -> None:
        """Sends the worker its next request, if it is free and it is time."""
        step, lead = self._num_steps, self._lead()
        keeps = self.execute_steps * self.world.action_steps.num_steps
        if self._request is not None or (self.plans and step + lead < self._took_over_at + keeps):
            return
        pending = self._motion.upcoming(lead)
        previous, executed = self._warm_start(step + lead)
        self._request = PlanRequest(
            time_step, step, pending, step + lead, previous, executed, self._motion.last
        )
        self._future = self._submit(self._work, self._request)

    def _lead(self) -> int:
        if not self.plans:
            return 0  # it stands still until there is a first plan
        if self.lead_steps is not None:
            return self.lead_steps
        assert self._period is not None
        return max(1, math.ceil(max(self._durations) / self._period))

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
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            self._note(future.result())  # raises here, in the loop, what the worker raised
        late = self._num_steps - request.begins_at_step
        if late >= 0 and self._answer is not None:
            (record, *_), self._answer, self._request = self._answer, None, None
            self._take_over(record, request, late)
        elif self.plans:
            self.lateness.num_late_plans += late == 0
            self._motion.is_late = late >= 0

    def _note(self, answer: Answer) -> None:
        """Remembers what the worker saw, at once; the plan itself may have to wait."""
        self._answer = answer
        self._durations.append(answer.seconds)
        self._has_arrived = answer.has_arrived
        self.latent_distances.append(answer.record.latent_distance)

    def _take_over(self, record: PlanRecord, request: PlanRequest, late: int) -> None:
        actions = self.world.action_steps.split(record.plan.actions.cpu()).numpy()
        # Who stood still meanwhile is where the plan begins; else its first steps have passed.
        skipped = late if self.plans and self.stale != "zero" else 0
        if skipped >= len(actions):
            self.lateness.num_discarded_plans += 1
            return
        self._motion.follow(actions[skipped:])
        begins = self._num_steps - skipped
        record = PlanRecord(**{**vars(record), "begins_at_step": begins})
        self.plans.append(record)
        self.lateness.num_plans += 1
        self._took_over_at, self._frame_step = self._num_steps, request.step
        if self._on_plan is not None:
            self._on_plan(record)

    def _next_action(self) -> np.ndarray:
        action, is_planned = self._motion.advance()
        count = self.lateness
        if not self.plans:
            count.num_waiting_steps += 1
        else:
            count.num_missed_steps += not is_planned or self._motion.is_late
            age = self._num_steps - self._frame_step
            count.oldest_frame_steps = max(count.oldest_frame_steps, age)
        return action

    # ------------------------------------------------------------------ the worker's side

    def _worker_submit(self, work: Work, request: PlanRequest) -> Future[Answer]:
        assert self._worker is not None
        return self._worker.submit(work, request)

    def _work(self, request: PlanRequest) -> Answer:
        """Sees, imagines what is pending, and plans from there."""
        began, pursuit, spec = self._clock(), self._pursuit, self._spec
        assert pursuit is not None and spec is not None
        now = self.world.encode(request.time_step.frame, request.time_step.state)
        has_new_goal = pursuit.advance(now, step=request.step, action_spec=spec)
        distance = pursuit.distance(now)
        start = self._imagine(now, request.pending)
        before = request.pending[-1] if len(request.pending) else request.previous_action
        plan = self.planner.plan(
            self.world,
            start,
            cost=_Interruptible(pursuit.cost, self._is_closing),
            action_spec=spec,
            generator=self._generator,
            previous_plan=None if has_new_goal else request.previous_plan,
            executed_steps=0 if has_new_goal else request.executed_steps,
            deadline_seconds=self.deadline_seconds,
            previous_action=None if before is None else torch.as_tensor(before).to(start.tokens),
        )
        refuse_not_finite(plan)
        imagined = imagined_distances(self.world, start, plan, pursuit.goal)
        record = PlanRecord(
            request.step, plan, imagined, distance, pursuit.index, request.begins_at_step
        )
        near = pursuit.reached_distance(now, spec)
        return Answer(record, pursuit.is_last and distance < near, self._clock() - began)

    def _imagine(self, now: Latent, pending: np.ndarray) -> Latent:
        """Returns where the robot will be after the pending actions (steps, action_dim)."""
        actions = model_actions(self.world.action_steps, torch.from_numpy(pending))
        if not len(actions):
            return now
        with torch.inference_mode():
            imagined = self.world.rollout(now, actions[None].to(now.tokens))
        state = None if now.state is None or imagined.state is None else imagined.state[0, -1]
        return Latent(imagined.tokens[0, -1], state)


class _Motion:
    """Which action comes next: the plan's, or what bridges a gap.

    Attributes:
        standstill: (action_dim,), the zero action, inside the bounds.
        last: what was executed last.
        is_late: the next plan should be here, and is not.
    """

    def __init__(self, stale: StalePolicy, max_hold_steps: int) -> None:
        self.stale: StalePolicy = stale
        self.max_hold_steps = max_hold_steps
        self.standstill = np.zeros(0, np.float32)
        self.last: np.ndarray | None = None
        self.is_late = False
        self._queue: deque[np.ndarray] = deque()
        self._num_held = 0

    def follow(self, actions: np.ndarray) -> None:
        """Replaces what was left of the plan before."""
        self._queue, self.is_late, self._num_held = deque(actions), False, 0

    def advance(self) -> tuple[np.ndarray, bool]:
        """Returns the next action, and whether a plan says so."""
        is_planned = bool(self._queue) and (self.stale == "continue" or not self.is_late)
        if is_planned:
            self.last = self._queue.popleft()
        else:
            self._queue.clear()
            self.last, self._num_held = self.bridge(), self._num_held + 1
        return self.last, is_planned

    def bridge(self) -> np.ndarray:
        """Returns what is done where no plan says what."""
        may_hold = self.stale == "hold" and self._num_held < self.max_hold_steps
        return self.last if may_hold and self.last is not None else self.standstill

    def upcoming(self, num_steps: int) -> np.ndarray:
        """Returns the next actions (num_steps, action_dim) if no other plan arrives."""
        ahead = _Motion(self.stale, self.max_hold_steps)
        ahead.standstill, ahead.last, ahead._queue = self.standstill, self.last, self._queue.copy()
        ahead._num_held, ahead.is_late = self._num_held, self.is_late
        actions = [ahead.advance()[0] for _ in range(num_steps)]
        return np.stack(actions) if actions else np.empty((0, len(self.standstill)), np.float32)


class _Worker:
    """One daemon thread that does one piece of work at a time."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[Future[Answer], Work, PlanRequest] | None]
        self._requests = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self._thread.start()

    def submit(self, work: Work, request: PlanRequest) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._requests.put((future, work, request))
        return future

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        while (task := self._requests.get()) is not None:
            future, work, request = task
            try:
                future.set_result(work(request))
            except BaseException as error:  # it is raised again in the loop that owns the robot
                future.set_exception(error)


class _Closing(Exception):
    """The policy was closed while it planned."""


@dataclass(frozen=True)
class _Interruptible:
    """A cost that ends the search once the policy is closed."""

    cost: Cost
    is_closing: threading.Event

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        if self.is_closing.is_set():
            raise _Closing
        return self.cost(imagined, actions)


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
