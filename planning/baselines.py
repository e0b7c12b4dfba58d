"""Policies that a planner must be compared with, on the same starts and goals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from planning.types import Environment, TimeStep


@runtime_checkable
class KnowsTheWay(Protocol):
    """An environment that can tell the shortest way, for `oracle`."""

    def shortest_path_action(self, state: np.ndarray, goal: np.ndarray, /) -> np.ndarray:
        """Returns the action (action_dim,) of the shortest way from `state` to `goal`."""
        ...


def random_actions(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """A fresh action at every step, uniform inside the bounds."""
    return environment.action_spec.sample(generator)


def do_nothing(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """The zero action.

    Raises:
        ValueError: if actions are choices: none of them is nothing.
    """
    if environment.action_spec.kind != "continuous":
        raise ValueError(
            f"{environment.name} has no action that does nothing: its actions are a choice among "
            f"{environment.action_spec.dim}"
        )
    return np.zeros(environment.action_spec.dim, dtype=np.float32)


@dataclass
class StickyRandom:
    """Keeps a random action for a while: explores further, so the data are recorded with it.

    Holds the action of one episode: make a new one for each.

    Args:
        change_probability: chance of a fresh action at each step, in (0, 1].
    """

    change_probability: float = 0.15
    _action: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.change_probability <= 1:
            raise ValueError(f"change_probability must be in (0, 1], got {self.change_probability}")

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The same action as before, or a fresh one."""
        if self._action is None or generator.random() < self.change_probability:
            self._action = environment.action_spec.sample(generator)
        return self._action


def straight_line(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """Straight towards the goal's true state: what a distance in the state's units would do.

    Raises:
        ValueError: if actions are not changes of the state per step.
    """
    spec = environment.action_spec
    if spec.units != tuple(f"{unit}/step" for unit in environment.state_units):
        raise ValueError(
            "straight_line needs actions that are changes of the state per step, "
            f"{environment.name} has actions in {', '.join(spec.units)} and states in "
            f"{', '.join(environment.state_units)}"
        )
    offset = (environment.goal.state - time_step.state).astype(np.float64)
    reach = np.where(offset > 0, spec.high, -np.array(spec.low))  # that way, in one step
    share = (reach / np.maximum(np.abs(offset), 1e-9)).min()
    return (offset * min(1.0, share)).astype(np.float32)


def oracle(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """The shortest way, from the true states, where the environment knows it.

    Raises:
        ValueError: if it does not.
    """
    if not isinstance(environment, KnowsTheWay):
        raise ValueError(
            f"the oracle needs an environment with shortest_path_action(state, goal), "
            f"{environment.name} has none"
        )
    return environment.shortest_path_action(
        time_step.state.astype(np.float64), environment.goal.state.astype(np.float64)
    )
