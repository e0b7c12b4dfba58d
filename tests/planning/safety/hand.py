"""A robot on a table, whose camera tells the time."""

from dataclasses import dataclass, field

import numpy as np

from planning.actions.space import ActionSpec
from planning.safety.robot_limits import RobotLimits
from planning.types import Goal, TimeStep

LIMITS = RobotLimits(
    max_change={"dx": 0.2, "dy": 0.1},
    workspace={"x": (-1.0, 1.0), "y": (-0.5, 2.0)},
    moved_by={"x": "dx", "y": "dy"},
)


class Clock:
    """Seconds that a test makes go by."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@dataclass
class Hand:
    """Moves by its action, of at most 0.5 m; a step takes a tenth of a second."""

    clock: Clock
    drives_hardware: bool = True
    tells_time: bool = True
    name: str = "hand"
    frames_per_second: float = 10.0
    state_names: tuple = ("x", "y")
    sent: list = field(default_factory=list)
    answer: object = None  # instead of the next time step: a function of it

    action_spec = ActionSpec(("dx", "dy"), ("metre/step",) * 2, (-0.5,) * 2, (0.5,) * 2)
    goal = Goal(np.zeros((2, 2, 3), np.uint8), np.zeros(2, np.float32))

    def reset(self, generator, *, start, goal):
        self.place = np.zeros(2)
        return self._shown()

    def step(self, action):
        self.sent.append(action)
        self.place = self.place + action
        self.clock.now += 0.1
        shown = self._shown()
        return shown if self.answer is None else self.answer(shown)

    def distance_to_goal(self):
        return float(np.abs(self.place).max())

    def _shown(self):
        frame = np.full((2, 2, 3), len(self.sent) % 256, np.uint8)
        captured = self.clock() if self.tells_time else None
        return TimeStep(frame, self.place.astype(np.float32), False, False, captured)
