"""Model-predictive control: observe, encode, plan, act a little, and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from planning.costs import GoalDistance, Reduction
from planning.latent_world import LatentWorld
from planning.types import Environment, Goal, Latent, Plan, Planner, TimeStep

Policy = Callable[[Environment, TimeStep, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class PlanRecord:
    """One planning step, for pictures and diagnosis.

    Attributes:
        step: environment step at which it was made.
        plan: what the planner returned.
        imagined_distances: (horizon,), latent distance to the goal along the chosen sequence,
            after each action of the world model.
    """

    step: int
    plan: Plan
    imagined_distances: np.ndarray


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


class PlanningPolicy:
    """Plans in latent space to the goal image, executes a few actions, plans again.

    Holds the state of one episode: make a new one for each. Encodes the goal once, and each frame
    that it sees once.

    Args:
        world: the trained world model.
        planner: chooses action sequences.
        execute_steps: actions executed of each plan, from 1 to the horizon. Where an action of the
            world model spans several steps of the environment, each takes so many.
        reduction: over the steps of an imagined rollout, see `GoalDistance`.
        seed: of the planner's samples.
        deadline_seconds: for each plan; None plans to the end.

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
        seed: int = 0,
        deadline_seconds: float | None = None,
    ) -> None:
        if not 1 <= execute_steps <= planner.horizon:
            raise ValueError(
                f"execute_steps must be from 1 to the horizon {planner.horizon}, "
                f"got {execute_steps}"
            )
        self.world, self.planner = world, planner
        self.execute_steps = execute_steps
        self.reduction: Reduction = reduction
        self.deadline_seconds = deadline_seconds
        self.plans: list[PlanRecord] = []
        self.latent_distances: list[float] = []
        self._generator = torch.Generator(device=world.device).manual_seed(seed)
        self._queue: list[np.ndarray] = []
        self._cost: GoalDistance | None = None
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
        if self._cost is None:
            self._cost = self._cost_of(environment)
        now = self.observe(time_step)
        if not self._queue:
            self._queue = self._plan(environment, now, self._cost)
        self._num_steps += 1
        return self._queue.pop(0)

    def observe(self, time_step: TimeStep) -> Latent:
        """Encodes the camera frame and notes how far the goal is in latent space."""
        assert self._cost is not None
        now = self.world.encode(time_step.frame, time_step.state)
        distance = self.world.distance(now.tokens, self._cost.goal.tokens)
        self.latent_distances.append(float(distance))
        return now

    def _cost_of(self, environment: Environment) -> GoalDistance:
        _refuse_other_actions(self.world, environment)
        goal = self.world.encode(environment.goal.frame)
        return GoalDistance(goal, self.world.distance, self.reduction)

    def _plan(self, environment: Environment, now: Latent, cost: GoalDistance) -> list[np.ndarray]:
        plan = self.planner.plan(
            self.world,
            now,
            cost=cost,
            action_spec=self.world.action_steps.joined(environment.action_spec),
            generator=self._generator,
            previous_plan=self.plans[-1].plan if self.plans else None,
            executed_steps=self.execute_steps,
            deadline_seconds=self.deadline_seconds,
        )
        with torch.inference_mode():
            imagined = cost.per_step(self.world.rollout(now, plan.actions[None]))[0]
        self.plans.append(PlanRecord(self._num_steps, plan, imagined.cpu().numpy()))
        chosen = plan.actions[: self.execute_steps].cpu()
        return list(self.world.action_steps.split(chosen).numpy())


def _refuse_other_actions(world: LatentWorld, environment: Environment) -> None:
    """Raises if the environment's actions are not those that the world model learned."""
    spec, steps = environment.action_spec, world.action_steps
    if steps.joined(spec).dim != world.action_dim:
        each = f", {steps.num_steps} steps of it {steps.joined(spec).dim}"
        raise ValueError(
            f"the world model imagines actions of {world.action_dim} dimensions, "
            f"{environment.name} has {spec.dim}{each if steps.num_steps > 1 else ''} "
            f"({', '.join(spec.names)}); use a world model that was trained on this environment"
        )
    expected, seconds = world.seconds_per_step, 1 / environment.frames_per_second
    if expected is not None and abs(seconds - expected) > 0.1 * expected:
        raise ValueError(
            f"the world model's actions are pose differences over {expected:.3g} s, a step of "
            f"{environment.name} lasts {seconds:.3g} s; make the environment step at "
            f"{1 / expected:g} per second, or train with frame_stride=1"
        )


def run_episode(
    environment: Environment,
    policy: Policy,
    *,
    start: np.ndarray,
    goal: np.ndarray,
    generator: np.random.Generator,
) -> EpisodeRecord:
    """Runs one episode from a start state to a goal state and tells what happened.

    Args:
        environment: is reset first.
        policy: chooses the actions; a fresh one, if it holds the state of an episode.
        start: state to start at.
        goal: state whose picture is the goal.
        generator: randomness of environment and policy.

    Raises:
        ValueError: if the policy's action has a wrong shape or is not finite.
    """
    time_step = environment.reset(generator, start=start, goal=goal)
    frames, states, actions = [time_step.frame], [time_step.state], []
    while not time_step.is_last:
        action = environment.action_spec.validate(policy(environment, time_step, generator))
        time_step = environment.step(action)
        frames.append(time_step.frame)
        states.append(time_step.state)
        actions.append(action)
    record = EpisodeRecord(
        frames, states, actions, environment.goal, time_step.is_success,
        environment.distance_to_goal(),
    )  # fmt: skip
    if isinstance(policy, PlanningPolicy) and actions:
        policy.observe(time_step)
        record.latent_distances, record.plans = policy.latent_distances, policy.plans
    return record
