"""Panda push: a robot arm pushes a cube over a table to where a picture shows it, within 5 cm.

The scene, actions and states of `panda_reach`. The cube begins 10 to 20 cm from its goal; in the
goal picture the closed hand is behind it, where it would be after having pushed it there.

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

LEAST_WAY, MOST_WAY = 0.1, 0.2  # metres from the cube to its goal
FINGER_DEPTH = 0.026  # metres from the middle of closed fingers to their sides
ABOVE = 0.0  # height of the hand where nothing is in its way


@dataclass
class PandaPush(PandaTask):
    """The environment; see `PandaTask` for its options."""

    name: str = field(default="panda_push", init=False)
    max_steps: int = 50

    def make_expert(self) -> Acts:
        """Returns a policy that goes behind the cube and pushes, anew where the cube slips off."""
        return policy_of(_Pusher(self))

    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if start is None:
            start = self._sample_start(generator)
            if goal is not None:  # the cube comes from some way off its goal
                start[9:11] = self._some_way_from(generator, goal[9:11])
        if goal is None:
            goal = self._pushed(generator, start)
        return start, goal

    def _pushed(self, generator: np.random.Generator, start: np.ndarray) -> np.ndarray:
        """Draws a goal: the cube further on, and the closed hand behind it."""
        place = np.append(self._some_way_from(generator, start[9:11]), self._table.resting_height)
        way = place[:2] - start[9:11]
        hand = np.append(self.behind(place[:2], way), GROUND)
        yaw = 2 * float(np.arctan2(start[15], start[12]))
        return self._configuration_of(hand, cube_at(place, yaw), closedness=1.0)

    def _some_way_from(self, generator: np.random.Generator, place: np.ndarray) -> np.ndarray:
        """Draws x and y on the table; where nothing of it is so near or far, the first drawn."""
        drawn = generator.uniform(CUBE_LOW, CUBE_HIGH, size=(1000, 2))
        ways = np.linalg.norm(drawn - place, axis=1)
        return drawn[int(np.argmax((ways >= LEAST_WAY) & (ways <= MOST_WAY)))]

    def behind(self, cube: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Returns x and y of closed fingers that would push the cube that way, whatever its yaw."""
        direction = way / max(float(np.linalg.norm(way)), 1e-9)
        return cube[:2] - direction * (self._table.cube_half_size * math.sqrt(2) + FINGER_DEPTH)


class _Pusher:
    """Above the place behind the cube, down, forward; from the beginning where it goes wrong."""

    def __init__(self, task: PandaPush) -> None:
        self._task = task
        self._phase = "above"
        self._last_cube = np.full(2, np.inf)

    def __call__(self) -> np.ndarray:
        task, table = self._task, self._task._table
        cube, hand = table.cube_position[:2], table.hand_position
        way = task.goal_configuration[9:11] - cube
        direction = way / max(float(np.linalg.norm(way)), 1e-9)
        place = task.behind(cube, way) - 0.015 * direction
        off = hand[:2] - place
        aside = off - (off @ direction) * direction
        is_stuck = off @ direction > 0.01 and np.linalg.norm(cube - self._last_cube) < 0.002
        self._last_cube = cube.copy()
        if self._phase == "above" and np.linalg.norm(off) < 0.012:
            self._phase = "down"
        elif self._phase == "down" and hand[2] < GROUND + 0.012:
            self._phase = "push"
        elif self._phase == "push" and (np.linalg.norm(aside) > 0.03 or is_stuck):
            self._phase = "above"
        if self._phase == "push":
            target = np.append(hand[:2] - aside + 0.05 * direction, GROUND)
        else:
            is_near = np.linalg.norm(off) < 0.02
            height = GROUND if self._phase == "down" and is_near else ABOVE
            # Upwards first: the cube may be in the way.
            beside = hand[:2] if hand[2] < ABOVE - 0.03 and height == ABOVE else place
            target = np.append(beside, height)
        return task._toward(target, closedness=1.0, yaw=0.0)
