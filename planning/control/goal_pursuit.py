"""The goals of an episode: encoded once, pursued one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.costs import SubGoalProgress, SubGoals
from planning.latent_world import LatentWorld
from planning.safety.safe_stop import NotFiniteStop
from planning.types import Cost, Latent

CostMaker = Callable[[Latent, LatentWorld], Cost]
NUM_TYPICAL_ACTIONS = 64


@dataclass(frozen=True)
class ArrivalRule:
    """When a goal counts as reached, judging by latents alone, and when a sub-goal is given up.

    Args:
        distance: latent distance under which a goal is reached. None: what one typical action
            moves in latent space, see `typical_step_distance`.
        max_steps: environment steps after which the next sub-goal is pursued anyway; None: never.
            The last goal is never given up.

    Raises:
        ValueError: if a value is not positive.
    """

    distance: float | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if self.distance is not None and not self.distance > 0:
            raise ValueError(f"the latent distance of a goal must be above 0, got {self.distance}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps of a sub-goal must be at least 1, got {self.max_steps}")


WITHIN_ONE_STEP = ArrivalRule()


class GoalPursuit:
    """Which goal is pursued now, and what it costs to be elsewhere.

    Holds the state of one episode.

    Args:
        world: encodes each goal once, here, and measures distances.
        frames: goal images (height, width, 3) uint8, in order; the last one is the goal.
        cost_of: makes the cost that pursues a goal.
        rule: when to go on to the next.
    """

    def __init__(
        self,
        world: LatentWorld,
        frames: Sequence[np.ndarray],
        *,
        cost_of: CostMaker,
        rule: ArrivalRule,
    ) -> None:
        if not len(frames):
            raise ValueError("there must be at least one goal image, got none")
        self.world, self.rule = world, rule
        self.goals = [world.encode(frame) for frame in frames]
        self.costs = [cost_of(goal, world) for goal in self.goals]
        self._reached_distance = rule.distance
        self._progress, self._last_step = SubGoalProgress(), 0

    @property
    def index(self) -> int:
        """Of the goal that is pursued."""
        return self._progress.index

    @property
    def goal(self) -> Latent:
        """What is pursued."""
        return self.goals[self.index]

    @property
    def cost(self) -> Cost:
        """Of not being there."""
        return self.costs[self.index]

    @property
    def is_last(self) -> bool:
        """True if no goal comes after this one."""
        return self.index == len(self.goals) - 1

    def distance(self, latent: Latent) -> float:
        """Returns the latent distance to what is pursued."""
        return float(self.world.distance(latent.tokens, self.goal.tokens))

    @property
    def known_reached_distance(self) -> float | None:
        """What `reached_distance` returned before, or the rule's; None if neither is there."""
        return self._reached_distance

    def reached_distance(self, now: Latent, action_spec: ActionSpec) -> float:
        """Returns the latent distance under which a goal is reached.

        Measured once, where the rule does not say it.

        Args:
            now: where the robot is.
            action_spec: of the world model's actions.
        """
        if self._reached_distance is None:
            self._reached_distance = typical_step_distance(self.world, now, action_spec)
        return self._reached_distance

    def advance(self, now: Latent, *, step: int, action_spec: ActionSpec) -> bool:
        """Goes on to the next goal if this one is reached or given up; True if it did.

        Args:
            now: what the camera sees.
            step: of the environment, not before that of the call before.
            action_spec: of the world model's actions.
        """
        if self.is_last:
            return False
        max_steps = self.rule.max_steps
        sub_goals = SubGoals(
            tuple(self.goals),
            self.world.distance,
            reached_within=self.reached_distance(now, action_spec),
            max_steps=None if max_steps is None else (max_steps,) * (len(self.goals) - 1),
        )
        index, num_steps = self.index, step - self._last_step
        self._progress = sub_goals.after(self._progress, now, num_steps=num_steps)
        self._last_step = step
        return self.index > index


def typical_step_distance(world: LatentWorld, now: Latent, action_spec: ActionSpec) -> float:
    """Returns how far one action moves the latent: the median over random actions.

    The natural unit of latent distances: a goal that is nearer cannot be told from the next step.
    The actions are the same each time.

    Args:
        world: imagines.
        now: where the robot is: tokens (tokens, dim).
        action_spec: of the world model's actions.

    Raises:
        NotFiniteStop: if no action leads to a finite distance.
    """
    low, high = action_spec.bounds(now.tokens)
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(NUM_TYPICAL_ACTIONS, 1, len(low), generator=generator).to(low)
    actions = action_spec.limit(low + (high - low) * shares)
    with torch.inference_mode():
        imagined = world.rollout(now, actions)
        distances = world.distance(imagined.tokens[:, 0], now.tokens)
    finite = distances[distances.isfinite()]
    if not len(finite):
        raise NotFiniteStop(
            f"all {len(distances)} latents that one action leads to are NaN or infinite; the world "
            "model or the camera frame is broken"
        )
    return float(finite.median())
