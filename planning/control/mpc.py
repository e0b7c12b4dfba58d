"""Model-predictive control: observe, encode, plan, act a little, and again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.actions.standstill import come_to_rest
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.recent_past import RecentPast
from planning.costs import GoalDistance, Reduction
from planning.latent_world import LatentWorld
from planning.search.rounds import Problem
from planning.types import Cost, Environment, Goal, Latent, Plan, Planner, TimeStep

logger = logging.getLogger(__name__)

Policy = Callable[[Environment, TimeStep, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class PlanRecord:
    """One planning step, for pictures and diagnosis.

    Attributes:
        step: environment step at which it was made.
        plan: what the planner returned.
        imagined_distances: (horizon,), latent distance to the goal along the chosen sequence,
            after each action of the world model.
        latent_distance: to the goal, where it begins.
        goal_index: which of the goals it pursues.
        begins_at_step: environment step at which its first action is meant to be executed.
    """

    step: int
    plan: Plan
    imagined_distances: np.ndarray
    latent_distance: float = math.nan
    goal_index: int = 0
    begins_at_step: int | None = None


@dataclass
class EpisodeRecord:
    """What happened in one episode.

    Attributes:
        frames: what the camera saw, steps + 1 of (height, width, 3).
        states: true states, steps + 1.
        actions: executed actions, one per step, inside the bounds.
        goal: where it should have ended.
        is_success: the goal was reached at some step (the episode ends there).
        final_distance: to the goal at the end, in the environment's unit.
        latent_distances: to the goal in latent space, steps + 1; empty if nothing was planned.
        plans: one record per planning step.
    """

    frames: list[np.ndarray]
    states: list[np.ndarray]
    actions: list[np.ndarray]
    goal: Goal
    is_success: bool
    final_distance: float
    latent_distances: list[float] = field(default_factory=list)
    plans: list[PlanRecord] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Executed actions."""
        return len(self.actions)


@runtime_checkable
class RemembersPlans(Protocol):
    """A policy that can tell how it planned."""

    plans: list[PlanRecord]
    latent_distances: list[float]

    def observe(self, time_step: TimeStep, /) -> object:
        """Looks at the last frame of an episode."""
        ...


def goal_distance(reduction: Reduction = "mean") -> CostMaker:
    """Returns a maker of the cost that is the latent distance to the goal, and nothing else.

    Args:
        reduction: over the steps of an imagined rollout, see `GoalDistance`.
    """

    def make(goal: Latent, world: LatentWorld) -> Cost:
        return GoalDistance(goal, world.distance, reduction)

    return make


class PlanningPolicy:
    """Plans in latent space to the goal image, executes a few actions, plans again.

    Holds the state of one episode: make a new one for each. Encodes each goal once, and each frame
    that it sees once. Calling it is `prepare`, plan, `accept` and `act`; who plans for many
    episodes together takes these steps by itself.

    Args:
        world: the trained world model.
        planner: chooses action sequences.
        execute_steps: actions executed of each plan, from 1 to the horizon. Where an action of the
            world model spans several steps of the environment, each takes so many.
        reduction: over the steps of an imagined rollout, see `GoalDistance`; for the default cost.
        cost_of: makes the cost of a goal; None: the latent distance to it.
        goals: images (height, width, 3) uint8, pursued one after the other; None: the picture of
            the environment's goal.
        arrival: when the next goal is pursued.
        seed: of the planner's samples.
        deadline_seconds: for each plan; None plans to the end.
        on_plan: is told of each plan when it is made.

    Attributes:
        plans: one record per planning step so far.
        latent_distances: to the goal, of each frame seen so far.
    """

    def __init__(
        self,
        world: LatentWorld,
        planner: Planner,
        *,
        execute_steps: int = 4,
        reduction: Reduction = "mean",
        cost_of: CostMaker | None = None,
        goals: Sequence[np.ndarray] | None = None,
        arrival: ArrivalRule = WITHIN_ONE_STEP,
        seed: int = 0,
        deadline_seconds: float | None = None,
        on_plan: Callable[[PlanRecord], None] | None = None,
    ) -> None:
        if not 1 <= execute_steps <= planner.horizon:
            raise ValueError(
                f"execute_steps must be from 1 to the horizon {planner.horizon}, "
                f"got {execute_steps}"
            )
        self.world, self.planner = world, planner
        self.execute_steps = execute_steps
        self.deadline_seconds = deadline_seconds
        self.plans: list[PlanRecord] = []
        self.latent_distances: list[float] = []
        self._cost_of = cost_of or goal_distance(reduction)
        self._goals, self._arrival, self._on_plan = goals, arrival, on_plan
        self._generator = torch.Generator(device=world.device).manual_seed(seed)
        self._queue: list[np.ndarray] = []
        self._pursuit: GoalPursuit | None = None
        self._spec: ActionSpec | None = None  # of the world model's actions, here
        self._seen: tuple[TimeStep, Latent] | None = None
        self._last_action: np.ndarray | None = None
        self._past, self._memory = RecentPast(world), None
        self._num_steps = 0

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action; plans when the last plan's share has been executed.

        Raises:
            ValueError: if the world model does not fit the environment: other actions, another
                state or another size of frames.
            FloatingPointError: if latents or all imagined costs are NaN or infinite.
        """
        problem = self.prepare(environment, time_step)
        if problem is not None:
            start, *_ = problem
            options = {k: v for k, v in problem._asdict().items() if k not in ("start", "memory")}
            if problem.memory is not None:
                options["memory"] = problem.memory
            deadline = self.deadline_seconds
            self.accept(self.planner.plan(self.world, start, **options, deadline_seconds=deadline))
        return self.act()

    def prepare(self, environment: Environment, time_step: TimeStep) -> Problem | None:
        """Looks at the camera, and returns what must be planned; None if nothing is."""
        now, pursuit = self._look(environment, time_step), self._pursuit
        assert pursuit is not None and self._spec is not None
        has_new_goal = pursuit.advance(now, step=self._num_steps, action_spec=self._spec)
        if has_new_goal:
            self._queue = []
            self.latent_distances[-1] = pursuit.distance(now)
        if self._queue:
            return None
        begins_anew = has_new_goal or not self.plans
        self._memory = self._past.memory()
        return Problem(
            start=now,
            cost=pursuit.cost,
            action_spec=self._spec,
            generator=self._generator,
            previous_plan=None if begins_anew else self.plans[-1].plan,
            executed_steps=0 if begins_anew else self.execute_steps,
            previous_action=_tensor(self._last_action, like=now),
            memory=self._memory,
        )

    def accept(self, plan: Plan) -> None:
        """Takes a plan for what `prepare` asked last.

        Raises:
            FloatingPointError: if an action of the plan is NaN or infinite.
        """
        assert self._seen is not None and self._pursuit is not None
        refuse_not_finite(plan)
        now, pursuit = self._seen[1], self._pursuit
        imagined = imagined_distances(self.world, now, plan, pursuit.goal, memory=self._memory)
        distance = self.latent_distances[-1]
        step = self._num_steps
        record = PlanRecord(step, plan, imagined, distance, pursuit.index, step)
        self.plans.append(record)
        chosen = plan.actions[: self.execute_steps].cpu()
        self._queue = list(self.world.action_steps.split(chosen).numpy())
        if self._on_plan is not None:
            self._on_plan(record)

    def act(self) -> np.ndarray:
        """Returns the next action of the plan."""
        self._num_steps += 1
        assert self._seen is not None
        self._last_action = self._queue.pop(0)
        self._past.add(self._seen[1], self._last_action)
        return self._last_action

    def observe(self, time_step: TimeStep) -> Latent:
        """Encodes the camera frame and notes how far the goal is in latent space, once."""
        assert self._pursuit is not None
        if self._seen is None or self._seen[0] is not time_step:
            now = self.world.encode(time_step.frame, time_step.state)
            self._seen = time_step, now
            self.latent_distances.append(self._pursuit.distance(now))
        return self._seen[1]

    def has_arrived(self, environment: Environment, time_step: TimeStep) -> bool:
        """True if the camera sees the last goal, judging by the latent distance alone."""
        now, pursuit = self._look(environment, time_step), self._pursuit
        assert pursuit is not None and self._spec is not None
        near = pursuit.reached_distance(now, self._spec)
        return pursuit.is_last and self.latent_distances[-1] < near

    @property
    def last_action(self) -> np.ndarray | None:
        """What was to be executed last; None before anything was."""
        return self._last_action

    @property
    def reached_distance(self) -> float | None:
        """The latent distance that counts as reached; None before it was needed."""
        return None if self._pursuit is None else self._pursuit.known_reached_distance

    def _look(self, environment: Environment, time_step: TimeStep) -> Latent:
        if self._pursuit is None:
            self._spec = joined_spec(self.world, environment)
            goals = self._goals if self._goals is not None else [environment.goal.frame]
            self._pursuit = GoalPursuit(
                self.world, goals, cost_of=self._cost_of, rule=self._arrival
            )
        return self.observe(time_step)


def joined_spec(
    world: LatentWorld, environment: Environment, *, period_seconds: float | None = None
) -> ActionSpec:
    """Returns what an action of the world model means in an environment.

    Args:
        world: imagines.
        environment: executes.
        period_seconds: from step to step; None: as long as a step of the environment lasts.

    Raises:
        ValueError: if the environment's actions are not those that the world model learned.
    """
    _refuse_other_actions(world, environment, period_seconds or 1 / environment.frames_per_second)
    return world.action_steps.joined(environment.action_spec)


def imagined_distances(
    world: LatentWorld,
    start: Latent,
    plan: Plan,
    goal: Latent,
    *,
    memory: Any = None,  # noqa: ANN401 - the world model's own
) -> np.ndarray:
    """Returns the latent distance to the goal after each action of a plan: (horizon,)."""
    options = {} if memory is None else {"memory": memory}
    with torch.inference_mode():
        imagined = world.rollout(start, plan.actions[None], **options)
        return world.distance(imagined.tokens, goal.tokens)[0].cpu().numpy()


def refuse_not_finite(plan: Plan) -> None:
    """Raises FloatingPointError if an action of the plan is NaN or infinite."""
    if not plan.actions.isfinite().all():
        raise FloatingPointError("the plan has an action that is NaN or infinite; none is executed")


def _tensor(action: np.ndarray | None, *, like: Latent) -> torch.Tensor | None:
    if action is None:
        return None
    return torch.as_tensor(action).to(like.tokens)


def _refuse_other_actions(world: LatentWorld, environment: Environment, seconds: float) -> None:
    """Raises if the environment's actions are not those that the world model learned."""
    spec, steps = environment.action_spec, world.action_steps
    if steps.joined(spec).dim != world.action_dim:
        each = f", {steps.num_steps} steps of it {steps.joined(spec).dim}"
        raise ValueError(
            f"the world model imagines actions of {world.action_dim} dimensions, "
            f"{environment.name} has {spec.dim}{each if steps.num_steps > 1 else ''} "
            f"({', '.join(spec.names)}); use a world model that was trained on this environment"
        )
    expected = world.seconds_per_step
    if expected is not None and abs(seconds - expected) > 0.1 * expected:
        raise ValueError(
            f"the world model's actions are pose differences over {expected:.3g} s, a step of "
            f"{environment.name} lasts {seconds:.3g} s; make the environment step at "
            f"{1 / expected:g} per second (a period of {1000 * expected:g} ms), or "
            "train with frame_stride=1"
        )


def _tell_it_may_move(first: BaseException, second: Exception) -> None:
    line = f"the robot may still be moving: stopping it failed ({type(second).__name__}: {second})"
    logger.error(line)
    add_note = getattr(first, "add_note", None)  # from Python 3.11 on
    if add_note is not None:
        add_note(line)


def run_episode(
    environment: Environment,
    policy: Policy,
    *,
    start: np.ndarray | None,
    goal: np.ndarray | None,
    generator: np.random.Generator,
    has_arrived: Callable[[Environment, TimeStep], bool] | None = None,
    pace: Callable[[], None] | None = None,
    stop_action: Callable[[], np.ndarray] | None = None,
) -> EpisodeRecord:
    """Runs one episode from a start state to a goal state and tells what happened.

    Args:
        environment: is reset first.
        policy: chooses the actions; a fresh one, if it holds the state of an episode.
        start: state to start at; drawn if None.
        goal: state whose picture is the goal; drawn if None.
        generator: randomness of environment and policy.
        has_arrived: is asked before each action whether the episode should end here, as a success;
            None: only the environment's own test ends it.
        pace: waits, after each step, until the next one is due; None: at once.
        stop_action: what a robot that has been told to move is told if anything fails, on Ctrl-C,
            and where `has_arrived` ends the episode; None: nothing. It is not recorded, takes
            several steps where `max_change` demands it, and an environment that has ended by
            itself is told nothing more.

    Raises:
        ValueError: if the policy's action has a wrong shape or is not finite.
    """
    time_step = environment.reset(generator, start=start, goal=goal)
    frames, states, actions = [time_step.frame], [time_step.state], []
    is_here, last = False, None  # the action that was sent last, executed or not
    try:
        while not time_step.is_last:
            if has_arrived is not None and (is_here := has_arrived(environment, time_step)):
                break
            action = policy(environment, time_step, generator)
            last = environment.action_spec.validate(action, last)
            time_step = environment.step(last)
            frames.append(time_step.frame)
            states.append(time_step.state)
            actions.append(last)
            if pace is not None:
                pace()
        record = EpisodeRecord(
            frames, states, actions, environment.goal, bool(is_here or time_step.is_success),
            environment.distance_to_goal(),
        )  # fmt: skip
        if stop_action is not None and last is not None and is_here:
            come_to_rest(environment, stop_action(), last=last, pace=pace)
    except BaseException as error:
        if stop_action is not None and last is not None and not time_step.is_last:
            try:
                come_to_rest(environment, stop_action(), last=last, pace=pace)
            except Exception as second:  # what failed first is what must be raised
                _tell_it_may_move(error, second)
        raise
    if isinstance(policy, RemembersPlans) and actions:
        policy.observe(time_step)
        record.latent_distances, record.plans = policy.latent_distances, policy.plans
    return record
