"""Policies that a planner must be compared with, on the same starts and goals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planning.environments.two_rooms import TwoRooms
from planning.types import Environment, TimeStep


def random_actions(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """A fresh action at every step, uniform inside the bounds."""
    return environment.action_spec.sample(generator)


def do_nothing(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """The zero action."""
    return np.zeros(environment.action_spec.dim, dtype=np.float32)


@dataclass
class StickyRandom:
    """Keeps a random action for a while: explores further, so the data are recorded with it.

    Args:
        change_probability: chance of a fresh action at each step, in (0, 1].
    """

    change_probability: float = 0.15
    _action: np.ndarray | None = field(default=None, init=False)

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
    """Straight towards the goal's true state: what a distance in pixels would do (two_rooms)."""
    rooms = _two_rooms(environment, "straight_line")
    offset = rooms.goal.state - time_step.state
    return (offset * min(1.0, rooms.max_move / max(float(np.abs(offset).max()), 1e-9))).astype(
        np.float32
    )


def oracle(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """The shortest way through the door, from the true states (two_rooms)."""
    rooms = _two_rooms(environment, "oracle")
    return rooms.shortest_path_action(
        time_step.state.astype(np.float64), rooms.goal.state.astype(np.float64)
    )


def _two_rooms(environment: Environment, policy: str) -> TwoRooms:
    if not isinstance(environment, TwoRooms):
        raise ValueError(f"the {policy} policy knows two_rooms only, got {environment.name}")
    return environment
