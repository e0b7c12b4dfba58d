"""Plans while acting: the robot never waits for the planner.

A worker thread plans from where the robot will be when the plan is ready: it imagines the actions
that will be executed meanwhile, and plans from the end of that. What happens when a plan is late is
said by the stale-plan policy. The loop that owns the robot calls `AsynchronousPolicy` once per step
and gets an action at once: finite, inside the bounds, or an error that stops the loop.
"""

from __future__ import annotations

import copy
import logging
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

from planning.actions.model_actions import model_actions
from planning.actions.space import ActionSpec
from planning.actions.standstill import binary_grippers, keeps_limits, standing_still
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.mpc import (
    PlanRecord,
    goal_distance,
    imagined_distances,
    joined_spec,
    refuse_not_finite,
)
from planning.latent_world import LatentWorld
from planning.types import Cost, Environment, Latent, Plan, Planner, TimeStep

logger = logging.getLogger(__name__)

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
        previous_action: (action_dim,), what was executed last; at first what stands still.
        moving_steps: of the pending steps; in those after them the robot stands still.
    """

    time_step: TimeStep
    step: int
    pending: np.ndarray
    begins_at_step: int
    previous_plan: Plan | None
    executed_steps: int
    previous_action: np.ndarray
    moving_steps: int


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
        submit: hands a request to a worker; None: a thread of its own.

    Attributes:
        plans: one record per plan that took over.
        latent_distances: to the goal, of each frame that was planned from.
        lateness: counts of what came late.

    Raises:
        ValueError: if a setting is not known or out of range, or if the world model is to be told
            of several frames.
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
        if (num_frames := getattr(world, "context_frames", 1)) > 1:
            raise ValueError(
                f"the world model was trained to see {num_frames} frames before it imagines, of "
                "which planning while acting knows one only; plan without --async, or train with "
                "context_frames=1"
            )
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
        self._error: BaseException | None = None  # what the worker raised
        self._motion = _Motion(stale, max_hold_steps, standstill)
        self._first_seconds = 0.0  # of the first plan, which is slower than others: all is cold
        self._durations: deque[float] = deque(maxlen=REMEMBERED_DURATIONS)
        self._pursuit: GoalPursuit | None = None
        self._spec: ActionSpec | None = None  # of the world model's actions, here
        self._has_arrived = False
        self._num_steps = 0
        self._num_moved = 0  # steps since the requested plan could begin, that did not stand still
        self._executes_until = 0  # the step from which another plan may take over
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
        """Ends the worker: a plan that is being made stops at its next round.

        Waits at most `CLOSING_SECONDS`; a warning tells if the worker is busy even then.
        """
        self._is_closing.set()
        if self._worker is not None and not self._worker.close():
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
            Exception: what the worker raised, for example FloatingPointError for NaN costs; at
                every call from then on.
            RuntimeError: if the policy was closed.
            ValueError: if the environment's actions do not say what stands still.
        """
        if self._is_closing.is_set():
            raise RuntimeError("this policy was closed; make a new one for each episode")
        if self._error is not None:
            raise self._error
        self._begin(environment)
        self._receive()
        self._ask(time_step)
        action = self._next_action()
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
        """What the robot is told when the loop ends: the last action to "hold", else rest."""
        return self._motion.bridge()

    def _begin(self, environment: Environment) -> None:
        if self._pursuit is not None:
            return
        if self._period is None:
            self._period = 1 / environment.frames_per_second
        self._spec = joined_spec(self.world, environment, period_seconds=self._period)
        self._motion.begin(environment.action_spec)
        goals = self._goals if self._goals is not None else [environment.goal.frame]
        self._pursuit = GoalPursuit(self.world, goals, cost_of=self._cost_of, rule=self._arrival)

    def _ask(self, time_step: TimeStep) -> None:
        """Sends the worker its next request, if it is free and it is time."""
        if self._request is not None:
            return
        step, lead = self._num_steps, self._lead()
        if step + lead < self._executes_until:
            return
        pending, moving = self._motion.upcoming(lead)
        previous, executed = self._warm_start(step + lead)
        before = self._motion.before
        self._request = PlanRequest(
            time_step, step, pending, step + lead, previous, executed, before, moving
        )
        self._num_moved = 0
        self._future = self._submit(self._work, self._request)

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
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            self._error = future.exception()
            if self._error is not None:
                raise self._error  # here, in the loop, what the worker raised
            self._note(future.result())
        late = self._num_steps - request.begins_at_step
        stands_still = self._num_steps >= request.step + request.moving_steps
        if self._answer is not None and (late >= 0 or stands_still):
            (record, *_), self._answer, self._request = self._answer, None, None
            self._take_over(record, request)
        elif self.plans:
            self.lateness.num_late_plans += late == 0
            self._motion.is_late = late >= 0

    def _note(self, answer: Answer) -> None:
        """Remembers what the worker saw, at once; the plan itself may have to wait."""
        self._answer = answer
        if self.plans:
            self._durations.append(answer.seconds)
        else:
            self._first_seconds = answer.seconds
        self._has_arrived = answer.has_arrived
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
        previous_action = torch.as_tensor(before).to(start.tokens)
        plan = self.planner.plan(
            self.world,
            start,
            cost=_Interruptible(pursuit.cost, self._is_closing),
            action_spec=spec,
            generator=self._generator,
            previous_plan=None if has_new_goal else request.previous_plan,
            executed_steps=0 if has_new_goal else request.executed_steps,
            deadline_seconds=self.deadline_seconds,
            previous_action=previous_action,
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
    """Which action comes next: the plan's, or what bridges a gap; inside all limits.

    Attributes:
        last: (action_dim,), what was executed last.
        is_still: it left the robot where it was.
        is_late: the next plan should be here, and is not.
    """

    def __init__(
        self, stale: StalePolicy, max_hold_steps: int, standstill: Sequence[float] | None
    ) -> None:
        self.stale: StalePolicy = stale
        self.max_hold_steps = max_hold_steps
        self.last: np.ndarray | None = None
        self.is_still, self.is_late = True, False
        self._standstill = standstill
        self._spec: ActionSpec | None = None  # of one step of the environment
        self._rest, self._grippers = np.zeros(0, np.float32), []
        self._queue: deque[np.ndarray] = deque()
        self._num_held = 0

    def begin(self, spec: ActionSpec) -> None:
        """Learns what an action is; raises ValueError if that does not say what stands still."""
        self._spec = spec
        self._rest = standing_still(spec, last=None, standstill=self._standstill)
        self._grippers = binary_grippers(spec)

    def follow(self, actions: np.ndarray) -> None:
        """Replaces what was left of the plan before."""
        self._queue, self.is_late, self._num_held = deque(actions), False, 0

    def advance(self, *, is_predicted: bool = False) -> tuple[np.ndarray, bool]:
        """Returns the next action, and whether a plan says so.

        Args:
            is_predicted: it is not executed: rounding errors outside the limits do not matter, so
                the slow exact projection is left out where nothing else is to be mended.
        """
        assert self._spec is not None
        before = self.before
        is_planned = bool(self._queue) and (self.stale == "continue" or not self.is_late)
        if is_planned:
            wanted = self._queue.popleft()
        else:
            self._queue.clear()
            wanted, self._num_held = self.bridge(), self._num_held + 1
        is_fine = is_predicted and keeps_limits(self._spec, wanted, before)
        self.last = wanted if is_fine else self._spec.validate(wanted, before)
        self.is_still = np.array_equal(self.last, self._at_rest(before))
        return self.last, is_planned

    @property
    def before(self) -> np.ndarray:
        """What the next action is limited by: the last one; a robot begins standing still."""
        return self._at_rest(None) if self.last is None else self.last

    def bridge(self) -> np.ndarray:
        """Returns what is done where no plan says what."""
        may_hold = self.stale == "hold" and self._num_held < self.max_hold_steps
        return self.last if may_hold and self.last is not None else self._at_rest(self.last)

    def upcoming(self, num_steps: int) -> tuple[np.ndarray, int]:
        """Returns what comes if no other plan arrives.

        Returns:
            The next actions (num_steps, action_dim), and how many it takes until all that are left
            stand still.
        """
        ahead, actions, num_moving = self._copy(), [], 0
        for step in range(num_steps):
            actions.append(ahead.advance(is_predicted=True)[0])
            num_moving = num_moving if ahead.is_still else step + 1
        nothing = np.empty((0, len(self.before)), np.float32)
        return (np.stack(actions) if actions else nothing), num_moving

    def steps_until_still(self, most: int) -> int:
        """Returns after how many steps, from 1 to `most`, no plan is left and nothing moves."""
        ahead = self._copy()
        for step in range(most):
            _, is_planned = ahead.advance(is_predicted=True)
            if ahead.is_still and not is_planned:
                return max(1, step)
        return most

    def _copy(self) -> _Motion:
        ahead = copy.copy(self)
        ahead._queue = self._queue.copy()
        return ahead

    def _at_rest(self, last: np.ndarray | None) -> np.ndarray:
        still = self._rest.copy()
        if last is not None:
            still[self._grippers] = last[self._grippers]
        return still


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

    def close(self) -> bool:
        """Returns whether the thread has ended."""
        self._requests.put(None)
        self._thread.join(CLOSING_SECONDS)
        return not self._thread.is_alive()

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
