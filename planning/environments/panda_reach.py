"""Panda reach: the hand of a robot arm goes to where a picture shows it, within 5 cm.

A Franka Panda at a table with a cube, simulated by robosuite (arXiv:2009.12293), with actions and
states in the convention of V-JEPA 2-AC (arXiv:2506.09985, Sec. 3.1 and 4.2), whose first test on a
robot this is. `panda_push` and `panda_lift` are the same scene: what is recorded in one serves all.

Install with: pip install 'jepa-planning[sim-robot]'. No display is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planning.capabilities import Acts
from planning.environments._panda import HAND_HIGH, HAND_LOW, PandaTask, policy_of
from planning.environments._panda_table import closedness_of

LEAST_WAY = 0.12  # metres between the hands of start and goal


@dataclass
class PandaReach(PandaTask):
    """The environment; see `PandaTask` for its options. The goal is the hand's; the cube stays."""

    name: str = field(default="panda_reach", init=False)
    max_steps: int = 25

    def make_expert(self) -> Acts:
        """Returns a policy that goes straight there."""
        return policy_of(
            lambda: self._toward(
                self.goal.state[:3].astype(np.float64),
                closedness=float(self.goal.state[6]),
                yaw=float(self.goal.state[5]),
            )
        )

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns how far the hand is from where it is in the goal, in metres."""
        here, there = (self._table.hand_at(place)[0] for place in (configuration, goal))
        return float(np.linalg.norm(here - there))

    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if start is not None and goal is not None:
            return start, goal
        given = start if start is not None else goal
        if given is None:
            given = start = self._sample_start(generator)
        drawn = self._elsewhere(generator, given)
        return (drawn, goal) if goal is not None else (given, drawn)

    def _elsewhere(self, generator: np.random.Generator, given: np.ndarray) -> np.ndarray:
        """Draws the hand anew, away from where it is; all else is as given."""
        here, closedness = self._table.hand_at(given)[0], closedness_of(given)
        while True:
            hand = generator.uniform(HAND_LOW, HAND_HIGH)
            if np.linalg.norm(hand - here) >= LEAST_WAY:
                return self._configuration_of(hand, given[9:16], closedness=closedness)
