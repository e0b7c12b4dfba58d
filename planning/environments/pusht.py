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

The physics remembers its contacts in ways that cannot be read, so a kept simulation is its start
and all targets since, and going back to it plays them again: exact, but longer the later it is.

Install with: pip install 'jepa-planning[sim]'. No display is needed; OpenCV, which gym-pusht needs,
wants libGL and GLib on a bare server (Debian: libgl1, libglib2.0-0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Factor
from planning.experts.pushing import PushingExpert
from planning.goal_simulation import Values, checked_values, unreached_goal
from planning.types import Goal, TimeStep

if TYPE_CHECKING:
    from gym_pusht.envs import PushTEnv  # pyright: ignore[reportMissingImports]

CANVAS_PIXELS = 512.0
ANGLE_TOLERANCE_RADIANS = math.pi / 9

_COLOUR = (0.0,) * 3, (1.0,) * 3
FACTORS = {
    "colour.agent": Factor(*_COLOUR, (65 / 255, 105 / 255, 225 / 255)),
    "colour.block": Factor(*_COLOUR, (119 / 255, 136 / 255, 153 / 255)),
    "light.colour": Factor((0.4,) * 3, (1.0,) * 3, (1.0,) * 3),
    "position.painted_t": Factor(
        (130.0, 130.0, -math.pi), (380.0, 380.0, math.pi), (256.0, 256.0, math.pi / 4)
    ),
    "size.agent": Factor((10.0,), (22.0,), (15.0,)),
}

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
        expert_pace: how fast the expert moves the disc, in (0, 1]; see `PushingExpert`.
    """

    image_size: int = 96
    max_offset: float = 100.0
    max_steps: int = 300
    expert_pace: float = 1.0
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
        PushingExpert(pace=self.expert_pace)  # refuses another one now, not in an episode
        simulator = _simulator_class()
        size = self.image_size
        self._physics = _made_physics()
        # A second simulator draws, so that a picture of any state disturbs no contact.
        self._painter = simulator("pixels", observation_width=size, observation_height=size)
        self._painter.reset(options={"reset_to_state": _APART})
        self._trial = _made_physics()  # tries what `simulate` is asked
        self._wanted = checked_values(FACTORS, {})
        self._apply(self._wanted)
        self._past: list[np.ndarray] = []  # the start, and the targets since
        self._state: np.ndarray | None = None
        self._steps_before_goal = 0
        self._goal: Goal | None = None

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
        self._apply(self._wanted)
        start_state = self._checked(start, "start", generator)
        goal_state = self._checked(goal, "goal", generator)
        self._past = [start_state]
        self._state = self._played(self._physics, self._past)
        return self._aim_for(goal_state)

    def new_goal(self, generator: np.random.Generator) -> TimeStep:
        """Draws a goal that is not yet reached, and begins the budget of steps anew.

        The simulation goes on as it is.

        Raises:
            ValueError: if every one that is drawn is reached already.
            RuntimeError: before the first reset.
        """
        if self._state is None:
            raise RuntimeError("there is no episode to go on before the first reset")
        here = self._state
        return self._aim_for(
            unreached_goal(
                lambda: self.sample_state(generator),
                lambda goal: self._distance_between(here, goal),
                beyond=self.success_distance,
            )
        )

    def step(self, action: np.ndarray) -> TimeStep:
        """Steers the disc towards its place plus `action` (dx, dy), for 0.1 s."""
        if self._state is None or self._is_last():
            raise RuntimeError("the episode is over; call reset before the next step")
        target = self._target(self._state, action)
        self._state = np.asarray(self._physics.step(target)[0])
        self._past.append(target)
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
        return self._distance_from(self._state)

    def _distance_from(self, state: np.ndarray) -> float:
        return self._distance_between(state, self.goal.state)

    def _distance_between(self, state: np.ndarray, goal: np.ndarray) -> float:
        difference = state - goal
        places = float(np.linalg.norm(difference[:4]))
        angle = abs(math.remainder(float(difference[4]), 2 * math.pi))
        return max(places, angle / ANGLE_TOLERANCE_RADIANS * self.success_distance)

    def make_expert(self) -> PushingExpert:
        """Returns an expert for one episode; it pushes the T, then goes to the disc's goal."""
        return PushingExpert(pace=self.expert_pace)

    # ------------------------------------------------------------------ keeping, trying, varying

    def save_state(self) -> np.ndarray:
        """Returns (5 + 2 * steps so far,), float64: the start, and the targets since."""
        if not self._past:
            raise RuntimeError("there is no state before the first reset")
        return np.concatenate(self._past)

    def load_state(self, saved: np.ndarray) -> None:
        """Goes back to what `save_state` returned, within the same episode, by playing it again."""
        saved = np.array(saved, dtype=np.float64)
        self._past = [saved[:5], *saved[5:].reshape(-1, 2)]
        self._state = self._played(self._physics, self._past)

    def simulate(self, actions: np.ndarray) -> np.ndarray:
        """Tries actions (horizon, 2) from where it is, in a simulation of their own.

        Success and the budget of steps end nothing here.

        Returns:
            (horizon,): `distance_to_goal` after each action.
        """
        if not self._past:
            raise RuntimeError("there is nothing to try before the first reset")
        distances, state = np.empty(len(actions)), self._played(self._trial, self._past)
        for index, action in enumerate(actions):
            state = np.asarray(self._trial.step(self._target(state, action))[0])
            distances[index] = self._distance_from(state)
        return distances

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, the colour of the light, the pose of the painted T, the disc's radius."""
        return FACTORS

    def vary(self, values: Mapping[str, Sequence[float]]) -> None:
        """Sets factors from the next reset on; those that are not named get their defaults.

        Raises:
            ValueError: if there is no such factor, or the value is outside its bounds.
        """
        self._wanted = checked_values(FACTORS, values)

    def _apply(self, values: Values) -> None:
        self._light = np.array(values["light.colour"])
        (self._disc_radius,) = values["size.agent"]
        self._painter.goal_pose = np.array(values["position.painted_t"])
        for body, name in ((self._painter.agent, "agent"), (self._painter.block, "block")):
            colour = tuple(round(255 * part) for part in values[f"colour.{name}"])
            for shape in body.shapes:
                shape.color = (*colour, 255)
        _resize_disc(self._painter, self._disc_radius)

    def _played(self, simulator: PushTEnv, past: Sequence[np.ndarray]) -> np.ndarray:
        """Plays targets from a start in a new space: nothing is left of what was there before."""
        simulator.reset(options={"reset_to_state": _APART})
        _resize_disc(simulator, self._disc_radius)
        _place(simulator, past[0])  # and no step of the physics
        for target in past[1:]:
            simulator.step(target)
        return np.asarray(simulator.get_obs())

    def _target(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        return np.clip(state[:2] + self.action_spec.validate(action), 0.0, CANVAS_PIXELS)

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
        frame = np.asarray(self._painter.get_obs())
        return frame if (self._light == 1).all() else (frame * self._light).astype(np.uint8)

    # ------------------------------------------------------------------ private

    def _aim_for(self, goal: np.ndarray) -> TimeStep:
        self._goal = Goal(self.render(goal), goal.astype(np.float32))
        self._steps_before_goal = len(self._past) - 1
        return self._time_step()

    @property
    def _steps(self) -> int:
        """How many there were since the goal was given."""
        return len(self._past) - 1 - self._steps_before_goal

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


def _made_physics() -> PushTEnv:
    """Makes a simulator without the overlap of gym-pusht's own task, half the time of a step."""
    simulator = _simulator_class()(obs_type="state")
    simulator._get_coverage = lambda: 0.0
    return simulator


def _place(simulator: PushTEnv, state: np.ndarray) -> None:
    """Puts disc and T at `state`, exactly: angle before position, and no step of the physics."""
    agent_x, agent_y, block_x, block_y, block_angle = (float(value) for value in state)
    simulator.agent.position = agent_x, agent_y
    simulator.block.angle = block_angle  # turns about the centre of mass, so it moves the origin
    simulator.block.position = block_x, block_y
    for body in (simulator.agent, simulator.block):
        simulator.space.reindex_shapes_for_body(body)  # shapes are drawn where the index has them


def _resize_disc(simulator: PushTEnv, radius: float) -> None:
    for shape in simulator.agent.shapes:
        if shape.radius != radius:
            shape.unsafe_set_radius(radius)
