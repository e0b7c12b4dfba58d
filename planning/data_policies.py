"""Policies that data are recorded with: random, an expert, a noisy expert, or a planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from planning.baselines import KnowsTheWay, StickyRandom, oracle, random_actions
from planning.capabilities import HasExpert
from planning.control.mpc import Policy
from planning.types import Environment, Goal, TimeStep

if TYPE_CHECKING:
    from planning.latent_world import LatentWorld
    from planning.search.rounds import SearchPlanner

PolicyName = Literal["random", "expert", "noisy-expert", "planner"]
POLICY_NAMES: tuple[str, ...] = get_args(PolicyName)


@dataclass
class OnePerGoal:
    """A fresh policy for each goal: an expert and a planner remember what they pursue.

    Args:
        make: makes it.
    """

    make: Callable[[], Policy]
    _policy: Policy | None = field(default=None, init=False, repr=False)
    _goal: Goal | None = field(default=None, init=False, repr=False)

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The action of the policy of this goal."""
        goal, pursued = environment.goal, self._goal
        is_same = pursued is not None and all(map(np.array_equal, goal, pursued))
        if self._policy is None or not is_same:
            self._policy, self._goal = self.make(), Goal(goal.frame.copy(), goal.state.copy())
        return self._policy(environment, time_step, generator)


@dataclass
class SeededPlanning:
    """A planning policy whose samples are drawn with the randomness of the episode.

    Args:
        make: makes it with a seed.
    """

    make: Callable[[int], Policy]
    _policy: Policy | None = field(default=None, init=False, repr=False)

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The action of the policy that was made with a seed drawn at the first call."""
        if self._policy is None:
            self._policy = self.make(int(generator.integers(2**31)))
        return self._policy(environment, time_step, generator)


@dataclass
class Noisy:
    """Another policy with noise of a level of this episode, and with detours.

    Args:
        policy: whose actions are disturbed.
        max_noise: each episode draws its standard deviation uniformly from 0 to this, as a share
            of half the range of each action column; of choices, the chance of another one.
        detour_probability: chance at each step that a random action begins, held for up to
            `max_detour` steps.
        max_detour: steps.

    Raises:
        ValueError: if a number is out of range.
    """

    policy: Policy
    max_noise: float = 0.3
    detour_probability: float = 0.02
    max_detour: int = 8
    _level: float | None = field(default=None, init=False, repr=False)
    _detour: np.ndarray | None = field(default=None, init=False, repr=False)
    _steps_left: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.max_noise <= 2 and 0 <= self.detour_probability <= 1):
            raise ValueError(
                "max_noise must be in [0, 2] and detour_probability in [0, 1], got "
                f"{self.max_noise} and {self.detour_probability}"
            )
        if self.max_detour < 1:
            raise ValueError(f"max_detour must be at least 1 step, got {self.max_detour}")

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The policy's action and noise, or a random action; inside the bounds."""
        spec = environment.action_spec
        if self._level is None:
            self._level = generator.uniform(0.0, self.max_noise)
        wanted = np.asarray(self.policy(environment, time_step, generator), dtype=np.float64)
        if self._steps_left == 0 and generator.random() < self.detour_probability:
            self._detour = spec.sample(generator)
            self._steps_left = int(generator.integers(1, self.max_detour + 1))
        if self._steps_left and self._detour is not None:
            self._steps_left -= 1
            return self._detour
        if spec.kind == "one_hot":
            return spec.sample(generator) if generator.random() < self._level else wanted
        half_range = (np.array(spec.high) - np.array(spec.low)) / 2
        noise = generator.normal(0.0, self._level, size=wanted.shape) * half_range
        return np.clip(wanted + noise, spec.low, spec.high).astype(np.float32)


@dataclass(frozen=True)
class DataPolicy:
    """Which policy, with what settings; can be carried into another process.

    Args:
        name: one of `POLICY_NAMES`.
        max_noise: of "noisy-expert", see `Noisy`.
        checkpoint: of "planner": folder of the world model.
        planner: of "planner".
        execute_steps: of "planner": actions executed of each plan.

    Raises:
        ValueError: if there is none of that name, the planner lacks its world model, or the noise
            is out of range.
    """

    name: str
    max_noise: float = 0.3
    checkpoint: Path | None = None
    planner: SearchPlanner | None = None
    execute_steps: int = 4

    def __post_init__(self) -> None:
        if self.name not in POLICY_NAMES:
            raise ValueError(f"policy must be {', '.join(POLICY_NAMES)}, got {self.name!r}")
        if self.name == "planner" and (self.checkpoint is None or self.planner is None):
            raise ValueError("policy planner needs a world model to plan with (--checkpoint)")
        Noisy(random_actions, self.max_noise)  # refuses another one now, not in an episode

    def maker(self, environment: Environment) -> Callable[[], Policy]:
        """Returns what makes the policy of an episode.

        Raises:
            ValueError: if the environment has no expert.
        """
        if self.name == "random":
            return StickyRandom
        make = self._planning() if self.name == "planner" else expert_maker(environment)
        if self.name == "noisy-expert":
            return lambda: Noisy(OnePerGoal(make), max_noise=self.max_noise)
        return lambda: OnePerGoal(make)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values that tell the policy from others: the world model by its bytes.

        Raises:
            FileNotFoundError: if there is no world model where it should be.
        """
        from planning.benchmarking.provenance import checkpoint_hash
        from planning.search.settings import settings_of

        values: dict[str, Any] = {"name": self.name}
        if self.name == "noisy-expert":
            values["max_noise"] = self.max_noise
        if self.planner is not None and self.checkpoint is not None:
            from planning.latent_world import checkpoint_folder

            values |= {
                "checkpoint_sha256": checkpoint_hash(checkpoint_folder(self.checkpoint)),
                "planner": {"class": type(self.planner).__name__, **settings_of(self.planner)},
                "execute_steps": self.execute_steps,
            }
        return values

    def _planning(self) -> Callable[[], Policy]:
        from planning.control.mpc import PlanningPolicy
        from planning.latent_world import LatentWorld

        assert self.checkpoint is not None and self.planner is not None
        world: LatentWorld = LatentWorld.load(self.checkpoint)
        planner, execute_steps = self.planner, self.execute_steps

        def make(seed: int) -> Policy:
            return PlanningPolicy(world, planner, execute_steps=execute_steps, seed=seed)

        return lambda: SeededPlanning(make)


def expert_maker(environment: Environment) -> Callable[[], Policy]:
    """Returns what makes an expert: the environment's own, or the shortest way where it knows it.

    Raises:
        ValueError: if there is neither.
    """
    if isinstance(environment, HasExpert):
        return environment.make_expert
    if isinstance(environment, KnowsTheWay):
        return lambda: oracle
    raise ValueError(
        f"{environment.name} has no expert; record it with --policy random, or define make_expert()"
    )
