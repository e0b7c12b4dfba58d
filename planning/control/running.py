"""One run to a goal: what is pursued, who judges it, and what happened in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.actions.standstill import standing_still
from planning.control.asynchronous_mpc import AsynchronousPolicy, LatenessCount
from planning.control.goal_pursuit import WITHIN_ONE_STEP, ArrivalRule, CostMaker
from planning.control.metronome import Metronome
from planning.control.motion import StalePolicy
from planning.control.mpc import (
    EpisodeRecord,
    PlanningPolicy,
    PlanRecord,
    goal_distance,
    joined_spec,
    run_episode,
)
from planning.control.plan_process import PlannerRecipe, worker_of
from planning.costs import Reduction
from planning.goal_images import ImageGoal
from planning.latent_world import LatentWorld
from planning.safety.guarded_environment import GuardedEnvironment
from planning.safety.robot_limits import RobotLimits
from planning.types import Environment, Planner

Judge = Literal["simulator", "latent distance"]


@dataclass(frozen=True)
class Goals:
    """Where a run starts and what it is after.

    Attributes:
        frames: goal images, pursued in order; None: the picture of `state`.
        state: of the last goal, where it is known: the simulator then judges success. None: the
            latent distance judges.
        start: state to start at; drawn if None.
    """

    frames: Sequence[np.ndarray] | None = None
    state: np.ndarray | None = None
    start: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.frames and self.state is None:
            raise ValueError("give a goal image, or the state of the goal")


@dataclass(frozen=True)
class RunSettings:
    """How a run goes.

    Attributes:
        execute_steps: actions of each plan that are executed; of an asynchronous run, at least.
        reduction: of the distance to the goal over the steps of a rollout; for the default cost.
        cost_of: makes the cost of a goal; None: the latent distance to it.
        deadline_seconds: for each plan; None plans to the end.
        seed: of the planner, and of what is drawn in the environment.
        is_asynchronous: plan while acting, in real time.
        stale: what bridges a late plan, see `AsynchronousPolicy`.
        period_seconds: from step to step of an asynchronous run; None: what the environment says.
        load_world: loads the world model in a process of the planner's own, see `PlanProcess`; of
            an asynchronous run. None: a thread of this process plans. What it is, and the cost,
            are sent there.
        give_up_seconds: a planner's process that tells of no better plan for so long is ended.
            None: 10 s, or twice the deadline if that is longer.
        standstill: (action_dim,), the action that stands still; None: zero. Choices have no zero,
            nor have binary grippers that have not been told anything yet. Where `max_change` limits
            actions, the first one is near to it: the robot is taken to stand still before.
        limits: that hold besides the bounds of the actions; what drives hardware is refused without
            them. None for an environment that is guarded already.
    """

    execute_steps: int = 4
    reduction: Reduction = "mean"
    cost_of: CostMaker | None = None
    deadline_seconds: float | None = None
    seed: int = 0
    is_asynchronous: bool = False
    stale: StalePolicy = "continue"
    period_seconds: float | None = None
    load_world: Callable[[], LatentWorld] | None = None
    give_up_seconds: float | None = None
    standstill: tuple[float, ...] | None = None
    limits: RobotLimits | None = None

    def __post_init__(self) -> None:
        if self.load_world is not None and not self.is_asynchronous:
            raise ValueError("load_world is of asynchronous runs only: set is_asynchronous, too")
        if self.give_up_seconds is not None and self.load_world is None:
            raise ValueError("give_up_seconds is of a planner's process: set load_world, too")


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        episode: what happened; `is_success` is the judge's.
        goals: images that were pursued.
        judge: who says whether the goal was reached.
        reached_distance: latent distance that counts as reached, if that judged.
        lateness: of an asynchronous run.
        num_late_steps: steps that were later than their beat, of an asynchronous run.
        steps_per_action: environment steps that an action of the world model spans.
    """

    episode: EpisodeRecord
    goals: Sequence[np.ndarray]
    judge: Judge
    reached_distance: float | None = None
    lateness: LatenessCount | None = None
    num_late_steps: int = 0
    steps_per_action: int = 1

    @property
    def is_success(self) -> bool:
        """The goal was reached."""
        return self.episode.is_success


def run_to_goal(
    world: LatentWorld,
    planner: Planner,
    environment: Environment,
    goals: Goals,
    *,
    settings: RunSettings = RunSettings(),
    arrival: ArrivalRule = WITHIN_ONE_STEP,
    on_plan: Callable[[PlanRecord], None] | None = None,
) -> Outcome:
    """Runs one episode to a goal.

    Args:
        world: the trained world model.
        planner: chooses action sequences.
        environment: with its budget of steps; a GuardedEnvironment is taken as it is.
        goals: start and goals.
        settings: how it goes.
        arrival: when a goal counts as reached where no simulator judges, and sub-goals always.
        on_plan: is told of each plan.

    Raises:
        ValueError: if world, environment, limits and goals do not fit together.
        SafeStop: if there is no action to trust: latents or costs that are not finite, frames that
            are none, an environment that fails. The robot was stopped.
    """
    if goals.state is None:
        assert goals.frames is not None
        environment = ImageGoal(environment, goals.frames[-1])
    guarded = _guarded(environment, settings)
    run = _Run(world, planner, guarded, goals, settings, arrival, on_plan)
    return run.while_acting() if settings.is_asynchronous else run.in_turns()


def _guarded(environment: Environment, settings: RunSettings) -> Environment:
    """Returns the environment behind a gate, its own if it has one."""
    if not getattr(environment, "is_guarded", False):
        gate = GuardedEnvironment(
            environment, limits=settings.limits, standstill=settings.standstill
        )
        return cast("Environment", gate)
    if settings.limits is not None:
        raise ValueError("the environment is guarded already: give its limits to its own gate")
    return environment


@dataclass(frozen=True)
class _Run:
    """One run, about to begin; see `run_to_goal`."""

    world: LatentWorld
    planner: Planner
    environment: Environment
    goals: Goals
    settings: RunSettings
    arrival: ArrivalRule
    on_plan: Callable[[PlanRecord], None] | None

    def in_turns(self) -> Outcome:
        """Plans, acts, and plans again."""
        settings, spec = self.settings, self.environment.action_spec
        standstill = settings.standstill
        policy = PlanningPolicy(
            self.world,
            self.planner,
            execute_steps=settings.execute_steps,
            reduction=settings.reduction,
            cost_of=settings.cost_of,
            goals=self.goals.frames,
            arrival=self.arrival,
            seed=settings.seed,
            deadline_seconds=settings.deadline_seconds,
            on_plan=self.on_plan,
            previous_action=_action_before(spec, standstill),
        )
        has_standstill = spec.kind != "one_hot" or standstill is not None

        def stop_action() -> np.ndarray:
            return standing_still(spec, last=policy.last_action, standstill=standstill)

        episode = self._play(policy, stop_action=stop_action if has_standstill else None)
        judged = _judged(policy, episode, self.goals)
        return Outcome(episode, *judged, steps_per_action=self.world.action_steps.num_steps)

    def while_acting(self) -> Outcome:
        """Plans beside the loop, which keeps its beat."""
        settings = self.settings
        metronome = Metronome(settings.period_seconds or 1 / self.environment.frames_per_second)
        recipe = self._recipe(metronome.period_seconds)
        with (
            worker_of(recipe, give_up_seconds=settings.give_up_seconds) as submit,
            AsynchronousPolicy(
                self.world,
                self.planner,
                stale=settings.stale,
                execute_steps=settings.execute_steps,
                cost_of=settings.cost_of or goal_distance(settings.reduction),
                goals=self.goals.frames,
                arrival=self.arrival,
                seed=settings.seed,
                deadline_seconds=settings.deadline_seconds,
                period_seconds=metronome.period_seconds,
                on_plan=self.on_plan,
                standstill=settings.standstill,
                submit=submit,
            ) as policy,
        ):
            episode = self._play(policy, pace=metronome.wait, stop_action=policy.stop_action)
        judged = _judged(policy, episode, self.goals)
        per_action = self.world.action_steps.num_steps
        return Outcome(episode, *judged, policy.lateness, metronome.num_late, per_action)

    def _recipe(self, period_seconds: float) -> PlannerRecipe | None:
        """Returns what the planner's process is made of; None if a thread of this one plans."""
        settings = self.settings
        if settings.load_world is None:
            return None
        return PlannerRecipe(
            settings.load_world,
            self.planner,
            self.goals.frames or [self._goal_frame()],
            joined_spec(self.world, self.environment, period_seconds=period_seconds),
            cost_of=settings.cost_of or goal_distance(settings.reduction),
            arrival=self.arrival,
            seed=settings.seed,
            deadline_seconds=settings.deadline_seconds,
            num_threads=torch.get_num_threads(),
        )

    def _goal_frame(self) -> np.ndarray:
        """Returns the picture of a goal's state, as the run will begin.

        Raises:
            ValueError: if the environment drives hardware, which is not moved for a picture.
        """
        environment, goals = self.environment, self.goals
        if getattr(environment, "drives_hardware", False):
            raise ValueError(
                f"{environment.name} drives hardware: a planner's process needs the goal image "
                "before anything moves; give it (--goal), or let a thread plan (without "
                "--planner-process)"
            )
        generator = np.random.default_rng(self.settings.seed)
        environment.reset(generator, start=goals.start, goal=goals.state)
        return environment.goal.frame

    def _play(
        self,
        policy: PlanningPolicy | AsynchronousPolicy,
        *,
        pace: Callable[[], None] | None = None,
        stop_action: Callable[[], np.ndarray] | None = None,
    ) -> EpisodeRecord:
        """Plays the episode; of a goal image, the policy says when it is reached."""
        return run_episode(
            self.environment,
            policy,
            start=self.goals.start,
            goal=self.goals.state,
            generator=np.random.default_rng(self.settings.seed),
            has_arrived=policy.has_arrived if self.goals.state is None else None,
            pace=pace,
            stop_action=stop_action,
        )


def _action_before(spec: ActionSpec, standstill: Sequence[float] | None) -> np.ndarray | None:
    """Returns what is taken to be executed before the first action; None where that is all one."""
    if spec.max_change is None:
        return None
    return np.array(np.zeros(spec.dim) if standstill is None else standstill, np.float32)


def _judged(
    policy: PlanningPolicy | AsynchronousPolicy, episode: EpisodeRecord, goals: Goals
) -> tuple[Sequence[np.ndarray], Judge, float | None]:
    frames = goals.frames or [episode.goal.frame]
    if goals.state is not None:
        return frames, "simulator", None
    return frames, "latent distance", policy.reached_distance
