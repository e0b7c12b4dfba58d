"""Panda lift: a robot arm grasps a cube and holds it up where a picture shows it, within 5 cm.

The scene, actions and states of `panda_reach`. The goal picture shows the cube in the hand, 10 to
18 cm above the table and near where it lay, so that success takes raising it by at least 5 cm (the
task of robosuite asks for 4).

Install with: pip install 'jepa-planning[sim-robot]'. No display is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from planning.capabilities import Acts
from planning.environments._panda import (
    CUBE_HIGH,
    CUBE_LOW,
    GROUND,
    PandaTask,
    cube_at,
    policy_of,
)
from planning.environments._panda_table import FINGER_TRAVEL

LEAST_HEIGHT, MOST_HEIGHT = 0.1, 0.18  # metres that the cube is raised
ASIDE = 0.04  # metres that it is moved along each axis at most
ABOVE = 0.0  # height of the hand where nothing is in its way


@dataclass
class PandaLift(PandaTask):
    """The environment; see `PandaTask` for its options."""

    name: str = field(default="panda_lift", init=False)
    max_steps: int = 50

    def make_expert(self) -> Acts:
        """Returns a policy that grasps the cube by two of its sides and raises it."""
        return policy_of(_Lifter(self))

    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        start = self._sample_start(generator) if start is None else start
        return start, self._held(generator, start) if goal is None else goal

    def _held(self, generator: np.random.Generator, start: np.ndarray) -> np.ndarray:
        """Draws a goal: the cube of `start` in the hand, in the air above the table.

        It may be in the hand already, or have been dropped where the hand cannot raise it.
        """
        low, high = (-ASIDE, -ASIDE, LEAST_HEIGHT), (ASIDE, ASIDE, MOST_HEIGHT)
        lying = np.append(np.clip(start[9:11], CUBE_LOW, CUBE_HIGH), self._table.resting_height)
        place = lying + generator.uniform(low, high)
        yaw = _nearest_quarter(2 * float(np.arctan2(start[15], start[12])), 0.0)
        grip = 1 - self._table.cube_half_size / FINGER_TRAVEL
        held = self._configuration_of(place, cube_at(place, yaw), yaw=yaw, closedness=grip)
        held[16] = 1.0  # told to close, so that it would hold on
        return held


class _Lifter:
    """Above the cube, down, close, and up."""

    def __init__(self, task: PandaLift) -> None:
        self._task = task
        self._phase = "above"
        self._waited = 0

    def __call__(self) -> np.ndarray:
        task, table = self._task, self._task._table
        cube, hand = table.cube_position, table.hand_position
        off = float(np.linalg.norm(hand[:2] - cube[:2]))
        yaw = _nearest_quarter(table.cube_yaw, 0.0)
        if self._phase == "above" and off < 0.01:
            self._phase = "down"
        elif self._phase == "down" and hand[2] < cube[2] + 0.01:
            self._phase = "close"
        elif self._phase == "close" and self._waited == 2:
            self._phase = "up"
        elif self._phase == "up" and np.linalg.norm(hand - cube) > 0.05:
            self._phase, self._waited = "above", 0  # lost
        if self._phase == "close":
            self._waited += 1
        if self._phase == "up":
            target = hand + task.goal_configuration[9:12] - cube
        else:
            target = np.append(cube[:2], ABOVE if self._phase == "above" else max(cube[2], GROUND))
        closedness = 1.0 if self._phase in ("close", "up") else 0.0
        return task._toward(target, closedness=closedness, yaw=yaw)


def _nearest_quarter(yaw: float, to: float) -> float:
    """The yaw plus the quarter turns that bring it nearest to another: a cube looks the same."""
    return to + math.remainder(yaw - to, math.pi / 2)
