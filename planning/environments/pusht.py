"""PushT: a disc pushes a T; the goal is a picture of where the disc and the T should be.

Wraps gym-pusht (the task of Diffusion Policy, arXiv:2303.04137) and asks for goals as
DINO-WM does (arXiv:2411.04983): any state can be the goal, and its picture is all that a planner
sees. Coordinates are pixels of the simulator's canvas of 512 x 512, x to the right, y down,
whatever the size of the frame. The light green T in every frame is painted by gym-pusht and never
moves: it is background, not the goal of the episode.

Two deviations from gym-pusht. A state is set exactly: gym-pusht sets the position of the T, then
turns it about its centre of mass, which lands up to 90 pixels away. Actions are relative to the
disc, as in DINO-WM's data; gym-pusht takes a place on the canvas. Three things are kept: the
disc's speed is hidden (not in the state, zero after a reset), the disc passes through walls as far
as the edge of the canvas, and a T that is squeezed between disc and wall slides into the wall.

Install with: pip install 'jepa-planning[sim]'. No display is needed; OpenCV, which gym-pusht needs,
wants libGL and GLib on a bare server (Debian: libgl1, libglib2.0-0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.actions.space import ActionSpec
from planning.types import Goal, TimeStep

if TYPE_CHECKING:
    from gym_pusht.envs import PushTEnv  # pyright: ignore[reportMissingImports]

CANVAS_PIXELS = 512.0
ANGLE_TOLERANCE_RADIANS = math.pi / 9

_APART = (50.0, 50.0, 256.0, 256.0, 0.0)  # nothing touches: the simulator can reset without pushing


@dataclass
class PushT:
    """The environment; a state is (agent_x, agent_y, block_x, block_y, block_angle).

    The block's place is the middle of the top edge of the T, and its angle is in [0, 2 pi).

    Args:
        image_size: height and width of a frame in pixels; published data has 96 and 224.
        max_offset: largest offset of the target along an axis, in canvas pixels. The default is
            the 1.0 of DINO-WM's scaled actions.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 96
    max_offset: float = 100.0
    max_steps: int = 300
    name: str = field(default="pusht", init=False)
    frames_per_second: float = field(default=10.0, init=False)
    state_names: tuple[str, ...] = field(
        default=("agent_x", "agent_y", "block_x", "block_y", "block_angle"), init=False
    )
    state_units: tuple[str, ...] = field(default=("pixel",) * 4 + ("radian",), init=False)
    success_distance: float = field(default=20.0, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= CANVAS_PIXELS:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        if not 0 < self.max_offset <= CANVAS_PIXELS:
            raise ValueError(f"max_offset must be in (0, 512] pixels, got {self.max_offset}")
        simulator = _simulator_class()
        size = self.image_size
        self._physics = simulator(obs_type="state")
        # A second simulator draws, so that a picture of any state disturbs no contact.
        self._painter = simulator("pixels", observation_width=size, observation_height=size)
        self._painter.reset(options={"reset_to_state": _APART})
        self._state: np.ndarray | None = None
        self._goal: Goal | None = None
        self._steps = 0

    # ------------------------------------------------------------------ the contract

    @property
    def action_spec(self) -> ActionSpec:
        """(dx, dy): where the disc is told to go, in canvas pixels from where it is.

        A controller steers the disc towards that target for 0.1 s. From rest it covers three
        tenths of the way in one step; (0, 0) holds a resting disc and brakes a moving one.
        """
        low, high = (-self.max_offset,) * 2, (self.max_offset,) * 2
        return ActionSpec(("dx", "dy"), ("pixel", "pixel"), low, high)

    def reset(
        self,
        generator: np.random.Generator,
        *,
        start: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> TimeStep:
        """Starts an episode at rest; states that are not given are drawn where nothing overlaps.

        A given state may overlap, as a recorded one may in which the disc presses on the T: it is
        shown as given, and the first step pushes the T out of the disc.

        Raises:
            ValueError: if a state is not five finite numbers with both places on the canvas.
        """
        start_state = self._checked(start, "start", generator)
        goal_state = self._checked(goal, "goal", generator)
        # A new space, and no step in it: nothing is left of the episode before.
        self._physics.reset(options={"reset_to_state": _APART})
        _place(self._physics, start_state)
        self._state = np.asarray(self._physics.get_obs())
        self._goal = Goal(self.render(goal_state), goal_state.astype(np.float32))
        self._steps = 0
        return self._time_step()

    def step(self, action: np.ndarray) -> TimeStep:
        """Steers the disc towards its place plus `action` (dx, dy), for 0.1 s."""
        if self._state is None or self._is_last():
            raise RuntimeError("the episode is over; call reset before the next step")
        target = self._state[:2] + self.action_spec.validate(action)
        self._state = np.asarray(self._physics.step(np.clip(target, 0.0, CANVAS_PIXELS))[0])
        self._steps += 1
        return self._time_step()

    @property
    def goal(self) -> Goal:
        """The goal of this episode."""
        if self._goal is None:
            raise RuntimeError("there is no goal before the first reset")
        return self._goal

    def distance_to_goal(self) -> float:
        """The larger of two distances: of the places in pixels, of the angles as 20 per pi / 9.

        So it is below `success_distance` exactly where DINO-WM and its followers count a success:
        the places (agent_x, agent_y, block_x, block_y) are less than 20 pixels apart, and the
        angles less than pi / 9.
        """
        if self._state is None:
            raise RuntimeError("there is no distance before the first reset")
        difference = self._state - self.goal.state
        places = float(np.linalg.norm(difference[:4]))
        angle = abs(math.remainder(float(difference[4]), 2 * math.pi))
        return max(places, angle / ANGLE_TOLERANCE_RADIANS * self.success_distance)

    # ------------------------------------------------------------------ states and pictures

    def is_free(self, state: np.ndarray) -> bool:
        """True where disc, T and walls do not overlap."""
        _place(self._painter, state)
        space, block = self._painter.space, self._painter.block
        moving = [*self._painter.agent.shapes, *block.shapes]
        return not any(
            hit.shape is not None and hit.shape.body is not shape.body
            for shape in moving
            for hit in space.shape_query(shape)
        )

    def sample_state(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a state (5,) where nothing overlaps, from the ranges of gym-pusht."""
        while True:
            agent, block = generator.uniform(50, 450, size=2), generator.uniform(100, 400, size=2)
            state = np.array([*agent, *block, generator.uniform(0, 2 * math.pi)])
            if self.is_free(state):
                return state

    def render(self, state: np.ndarray) -> np.ndarray:
        """Draws the world in `state`: (height, width, 3) uint8."""
        _place(self._painter, state)
        return np.asarray(self._painter.get_obs())

    # ------------------------------------------------------------------ private

    def _time_step(self) -> TimeStep:
        assert self._state is not None
        is_success = self.distance_to_goal() < self.success_distance
        frame = self.render(self._state)
        return TimeStep(frame, self._state.astype(np.float32), is_success, self._is_last())

    def _is_last(self) -> bool:
        return self._steps >= self.max_steps or self.distance_to_goal() < self.success_distance

    def _checked(
        self, state: np.ndarray | None, what: str, generator: np.random.Generator
    ) -> np.ndarray:
        if state is None:
            return self.sample_state(generator)
        state = np.array(state, dtype=np.float64)
        is_sound = state.shape == (5,) and bool(np.isfinite(state).all())
        if not (is_sound and ((state[:4] >= 0) & (state[:4] <= CANVAS_PIXELS)).all()):
            raise ValueError(
                f"{what} must be ({', '.join(self.state_names)}), finite, with both places in "
                f"[0, 512] canvas pixels, got {state.tolist()}"
            )
        state[4] %= 2 * math.pi
        return state


def _simulator_class() -> type[PushTEnv]:
    try:
        from gym_pusht.envs import PushTEnv  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError(
            f"PushT needs the simulator extra: pip install 'jepa-planning[sim]' ({error})"
        ) from error
    return PushTEnv


def _place(simulator: PushTEnv, state: np.ndarray) -> None:
    """Puts disc and T at `state`, exactly: angle before position, and no step of the physics."""
    agent_x, agent_y, block_x, block_y, block_angle = (float(value) for value in state)
    simulator.agent.position = agent_x, agent_y
    simulator.block.angle = block_angle  # turns about the centre of mass, so it moves the origin
    simulator.block.position = block_x, block_y
    for body in (simulator.agent, simulator.block):
        simulator.space.reindex_shapes_for_body(body)  # shapes are drawn where the index has them
