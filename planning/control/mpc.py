"""Model-predictive control: observe, encode, plan, act a little, and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.actions.standstill import come_to_rest
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker, GoalPursuit
from planning.control.limited_actions import NO_LIMITS, ActionLimits
from planning.control.recent_past import RecentPast, memory_of
from planning.costs import GoalDistance, Reduction, WeightedSum
from planning.latent_world import LatentWorld
from planning.safety.observations import refuse_no_observation
from planning.safety.safe_stop import NotFiniteStop, tell_beside
from planning.search.rounds import Problem
from planning.types import Cost, Environment, Goal, Latent, Plan, Planner, TimeStep

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
        cost_parts: what each term adds to the cost along the chosen sequence, where it is a
            weighted sum.
    """

    step: int
    plan: Plan
    imagined_distances: np.ndarray
    latent_distance: float = math.nan
    goal_index: int = 0
    begins_at_step: int | None = None
    cost_parts: Mapping[str, float] = field(default_factory=dict)


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
    return partial(_goal_distance, reduction=reduction)  # unlike a closure, it can be sent


def _goal_distance(goal: Latent, world: LatentWorld, *, reduction: Reduction) -> Cost:
    return GoalDistance(goal, world.distance, reduction)


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
        previous_action: (action_dim,), what is taken to be executed before the first action, for
            limits of change; None: the first action may be any.
        limits: that plans keep besides those of the environment.

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
        previous_action: np.ndarray | None = None,
        limits: ActionLimits = NO_LIMITS,
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
        self._limits = limits
        self._generator = torch.Generator(device=world.device).manual_seed(seed)
        self._queue: list[np.ndarray] = []
        self._pursuit: GoalPursuit | None = None
        self._spec: ActionSpec | None = None  # of the world model's actions, here
        self._seen: tuple[TimeStep, Latent] | None = None
        self._last_action: np.ndarray | None = None
        self._action_before = previous_action  # the first
        self._past: RecentPast[Latent] = RecentPast(world)
        self._memory: object = None
        self._num_steps = 0

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action; plans when the last plan's share has been executed.

        Raises:
            ValueError: if the world model does not fit the environment: other actions, another
                state or another size of frames.
            SafeStop: if the time step is none, if latents are NaN or infinite, or too few imagined
                costs are finite.
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
        self._memory = memory_of(self.world, self._past.past())
        return Problem(
            start=now,
            cost=pursuit.cost,
            action_spec=self._spec,
            generator=self._generator,
            previous_plan=None if begins_anew else self.plans[-1].plan,
            executed_steps=0 if begins_anew else self.execute_steps,
            previous_action=_tensor(self._previous_action(), like=now),
            memory=self._memory,
        )

    def accept(self, plan: Plan) -> None:
        """Takes a plan for what `prepare` asked last.

        Raises:
            NotFiniteStop: if an action of the plan is NaN or infinite.
        """
        assert self._seen is not None and self._pursuit is not None
        refuse_not_finite(plan)
        now, pursuit = self._seen[1], self._pursuit
        imagined, parts = looked_ahead(self.world, now, plan, pursuit, memory=self._memory)
        distance = self.latent_distances[-1]
        step = self._num_steps
        record = PlanRecord(step, plan, imagined, distance, pursuit.index, step, parts)
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
            refuse_no_observation(time_step)
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

    def _previous_action(self) -> np.ndarray | None:
        return self._action_before if self._last_action is None else self._last_action

    def _look(self, environment: Environment, time_step: TimeStep) -> Latent:
        if self._pursuit is None:
            self._spec = joined_spec(self.world, environment, limits=self._limits)
            goals = self._goals if self._goals is not None else [environment.goal.frame]
            self._pursuit = GoalPursuit(
                self.world, goals, cost_of=self._cost_of, rule=self._arrival
            )
        return self.observe(time_step)


def joined_spec(
    world: LatentWorld,
    environment: Environment,
    *,
    period_seconds: float | None = None,
    limits: ActionLimits = NO_LIMITS,
) -> ActionSpec:
    """Returns what an action of the world model means in an environment.

    Args:
        world: imagines.
        environment: executes.
        period_seconds: from step to step; None: as long as a step of the environment lasts.
        limits: besides those of the environment.

    Raises:
        ValueError: if the environment's actions are not those that the world model learned, or
            the limits do not fit them.
    """
    _refuse_other_actions(world, environment, period_seconds or 1 / environment.frames_per_second)
    return world.action_steps.joined(limits.of(environment.action_spec))


def looked_ahead(
    world: LatentWorld,
    start: Latent,
    plan: Plan,
    pursuit: GoalPursuit,
    *,
    memory: Any = None,  # noqa: ANN401 - the world model's own
) -> tuple[np.ndarray, dict[str, float]]:
    """Imagines a plan once more, to tell of it.

    Returns:
        The latent distance to the goal after each action, (horizon,); and what each term of the
        cost adds to it, by name, if it is a weighted sum.
    """
    actions, options = plan.actions[None], {} if memory is None else {"memory": memory}
    with torch.inference_mode():
        imagined = world.rollout(start, actions, **options)
        distances = world.distance(imagined.tokens, pursuit.goal.tokens)[0].cpu().numpy()
        if not isinstance(pursuit.cost, WeightedSum):
            return distances, {}
        parts = pursuit.cost.parts(imagined, actions)
        return distances, {name: part.item() for name, part in parts.items()}


def refuse_not_finite(plan: Plan) -> None:
    """Raises NotFiniteStop if an action of the plan is NaN or infinite."""
    if not plan.actions.isfinite().all():
        raise NotFiniteStop("the plan has an action that is NaN or infinite; none is executed")


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


class Episode:
    """An episode as it goes: what was seen and done so far.

    Args:
        environment: is reset here.
        start: state to start at; drawn if None.
        goal: state whose picture is the goal; drawn if None.
        generator: randomness of the environment.

    Attributes:
        time_step: what the environment shows.
        last_action: that was sent last, executed or not; None before the first.

    Raises:
        ValueError: if the environment drives hardware, and nothing guards it.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        start: np.ndarray | None,
        goal: np.ndarray | None,
        generator: np.random.Generator,
    ) -> None:
        _refuse_bare_hardware(environment)
        self.environment = environment
        self.time_step = environment.reset(generator, start=start, goal=goal)
        self.frames, self.states = [self.time_step.frame], [self.time_step.state]
        self.actions: list[np.ndarray] = []
        self.last_action: np.ndarray | None = None

    @property
    def is_over(self) -> bool:
        """The environment has ended it."""
        return self.time_step.is_last

    def advance(self, action: np.ndarray) -> None:
        """Executes an action, as near to it as the limits allow.

        Raises:
            ValueError: if the action has a wrong shape or is not finite.
        """
        self.last_action = self.environment.action_spec.validate(action, self.last_action)
        self.time_step = self.environment.step(self.last_action)
        self.frames.append(self.time_step.frame)
        self.states.append(self.time_step.state)
        self.actions.append(self.last_action)

    def stop(
        self, stop_action: Callable[[], np.ndarray], *, pace: Callable[[], None] | None = None
    ) -> None:
        """Tells a robot that was told to move, and has not ended the episode itself, to stop."""
        if self.last_action is not None and not self.is_over:
            come_to_rest(self.environment, stop_action(), last=self.last_action, pace=pace)

    def record(self, *, has_arrived: bool = False) -> EpisodeRecord:
        """Returns what happened so far; a success if the environment says so, or `has_arrived`."""
        return EpisodeRecord(
            self.frames, self.states, self.actions, self.environment.goal,
            bool(has_arrived or self.time_step.is_success), self.environment.distance_to_goal(),
        )  # fmt: skip

    def record_with_plans(self, record: EpisodeRecord, policy: RemembersPlans) -> EpisodeRecord:
        """Returns the record with what a policy says of its plans; it sees the last frame, too."""
        if self.actions:
            policy.observe(self.time_step)
            record.latent_distances, record.plans = policy.latent_distances, policy.plans
        return record


def _refuse_bare_hardware(environment: Environment) -> None:
    is_robot = getattr(environment, "drives_hardware", False)
    if is_robot and not getattr(environment, "is_guarded", False):
        raise ValueError(
            f"{environment.name} drives hardware, and nothing guards it: give "
            "GuardedEnvironment(robot, limits=RobotLimits.load(FILE)) instead"
        )


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
    episode = Episode(environment, start=start, goal=goal, generator=generator)
    try:
        is_here = _act(episode, policy, generator, has_arrived=has_arrived, pace=pace)
        record = episode.record(has_arrived=is_here)
        if stop_action is not None and is_here:
            episode.stop(stop_action, pace=pace)
    except BaseException as error:  # Ctrl-C, too: whatever ends the loop, the robot must not go on
        if stop_action is not None:
            _stop_after(error, episode, stop_action, pace=pace)
        raise
    if isinstance(policy, RemembersPlans):
        return episode.record_with_plans(record, policy)
    return record


def _act(
    episode: Episode,
    policy: Policy,
    generator: np.random.Generator,
    *,
    has_arrived: Callable[[Environment, TimeStep], bool] | None,
    pace: Callable[[], None] | None,
) -> bool:
    """Acts until the environment or `has_arrived` ends the episode; True if the latter did."""
    environment = episode.environment
    while not episode.is_over:
        if has_arrived is not None and has_arrived(environment, episode.time_step):
            return True
        episode.advance(policy(environment, episode.time_step, generator))
        if pace is not None:
            pace()
    return False


def _stop_after(
    error: BaseException,
    episode: Episode,
    stop_action: Callable[[], np.ndarray],
    *,
    pace: Callable[[], None] | None,
) -> None:
    """Stops the robot after an error; if that fails too, it is told beside the first error."""
    try:
        episode.stop(stop_action, pace=pace)
    except Exception as second:  # whatever it is: what failed first is what must be raised
        reason = f"{type(second).__name__}: {second}"
        tell_beside(error, f"the robot may still be moving: stopping it failed ({reason})")
