"""Two rooms, a wall and a door: the straight line to the goal is often not the way there.

A disc moves by (dx, dy) pixels per step, slides along walls, and is seen from above in RGB. The
same task family as eb_jepa's and PLDM's two-rooms worlds (arXiv:2502.14819, Sec. 4), drawn in
colour. Coordinates are pixels of the frame, x to the right, y down. No dependency.

What can vary: colours, light, the size of the disc, as drawn and as it collides (only smaller, so
that it fits where it did), and the place of the door, as a share of the height (a start that was
drawn inside the door is refused where the door is elsewhere).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Acts, Factor, simulated_distances
from planning.environments._painting import with_disc
from planning.goal_simulation import checked_values, unreached_goal
from planning.types import Goal, TimeStep

if TYPE_CHECKING:
    from planning.types import Environment

LEFT_FLOOR = (150, 190, 200)
RIGHT_FLOOR = (222, 202, 150)
WALL = (58, 54, 66)
AGENT = (214, 58, 62)

_COLOUR = (0.0,) * 3, (1.0,) * 3
_LOOK = {
    "colour.agent": AGENT,
    "colour.left_floor": LEFT_FLOOR,
    "colour.right_floor": RIGHT_FLOOR,
    "colour.wall": WALL,
}


@dataclass
class TwoRooms:
    """The environment; `image_size` fixes the scale of everything else.

    Args:
        image_size: height and width of a frame in pixels.
        door_center: y of the middle of the door, as a share of the height.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    door_center: float = 0.34
    max_steps: int = 50
    name: str = field(default="two_rooms", init=False)
    frames_per_second: float = field(default=10.0, init=False)
    state_names: tuple[str, ...] = field(default=("x", "y"), init=False)
    state_units: tuple[str, ...] = field(default=("pixel", "pixel"), init=False)

    def __post_init__(self) -> None:
        size = self.image_size
        if size < 32 or size % 16:
            raise ValueError(f"image_size must be a multiple of 16, at least 32, got {size}")
        if not 0.2 <= self.door_center <= 0.8:
            raise ValueError(f"door_center must be in [0.2, 0.8], got {self.door_center}")
        self.max_move = size * 5.0 / 64
        self.success_distance = size * 4.0 / 64
        self._border = size * 2.0 / 64
        self._wall_left, self._wall_right = size * 30.0 / 64, size * 34.0 / 64
        self._door_half_height = size * 8.0 / 64
        self._wanted = checked_values(self.factors, {})
        self._apply(self._wanted)
        self._position: np.ndarray | None = None
        self._goal: Goal | None = None
        self._steps = 0

    # ------------------------------------------------------------------ the contract

    @property
    def action_spec(self) -> ActionSpec:
        """(dx, dy) in pixels per step."""
        low, high = (-self.max_move,) * 2, (self.max_move,) * 2
        return ActionSpec(("dx", "dy"), ("pixel/step", "pixel/step"), low, high)

    def reset(
        self,
        generator: np.random.Generator,
        *,
        start: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> TimeStep:
        """Starts an episode; positions that are not given are drawn uniformly from free space.

        Raises:
            ValueError: if a position is not free.
        """
        if self._wanted != self._applied:
            self._apply(self._wanted)
        self._position = self._free(start, "start", generator)
        return self._aim_for(self._free(goal, "goal", generator))

    def new_goal(self, generator: np.random.Generator) -> TimeStep:
        """Draws a goal that is not yet reached, and begins the budget of steps anew.

        Raises:
            ValueError: if every one that is drawn is reached already.
            RuntimeError: before the first reset.
        """
        if self._position is None:
            raise RuntimeError("there is no episode to go on before the first reset")
        here = self._position
        return self._aim_for(
            unreached_goal(
                lambda: self.sample_position(generator),
                lambda goal: float(np.linalg.norm(here - goal)),
                beyond=self.success_distance,
            )
        )

    def step(self, action: np.ndarray) -> TimeStep:
        """Moves by `action` (dx, dy), sliding along walls."""
        if self._position is None or self._is_last():
            raise RuntimeError("the episode is over; call reset before the next step")
        self._walk(action)
        self._steps += 1
        return self._time_step()

    @property
    def goal(self) -> Goal:
        """The goal of this episode."""
        if self._goal is None:
            raise RuntimeError("there is no goal before the first reset")
        return self._goal

    def distance_to_goal(self) -> float:
        """Straight distance to the goal in pixels."""
        if self._position is None:
            raise RuntimeError("there is no distance before the first reset")
        return float(np.linalg.norm(self._position - self.goal.state))

    # ------------------------------------------------------------------ keeping, trying, varying

    def save_state(self) -> np.ndarray:
        """Returns (x, y, steps so far), float64."""
        if self._position is None:
            raise RuntimeError("there is no state before the first reset")
        return np.array([*self._position, self._steps], dtype=np.float64)

    def load_state(self, saved: np.ndarray) -> None:
        """Goes back to what `save_state` returned, within the same episode."""
        self._position, self._steps = np.array(saved[:2], dtype=np.float64), int(saved[2])

    def simulate(self, actions: np.ndarray) -> np.ndarray:
        """Tries actions (horizon, 2) from where it is, and goes back.

        Success and the budget of steps end nothing here.

        Returns:
            (horizon,): `distance_to_goal` after each action.
        """
        return simulated_distances(self, actions, self._walk)

    def make_expert(self) -> Acts:
        """Returns a policy that walks the shortest way, through the door where it must."""

        def walk(
            environment: Environment, time_step: TimeStep, generator: np.random.Generator
        ) -> np.ndarray:
            assert self._position is not None
            return self.shortest_path_action(self._position, self.goal.state.astype(np.float64))

        return walk

    @property
    def factors(self) -> Mapping[str, Factor]:
        """What can vary, by name."""
        factors = {
            name: Factor(*_COLOUR, tuple(value / 255 for value in colour))
            for name, colour in _LOOK.items()
        }
        factors["light.brightness"] = Factor((0.4,), (1.4,), (1.0,))
        factors["position.door"] = Factor((0.2,), (0.8,), (self.door_center,))
        factors["size.agent"] = Factor((2.0 / 64,), (3.5 / 64,), (3.5 / 64,))
        return factors

    def vary(self, values: Mapping[str, Sequence[float]]) -> None:
        """Sets factors from the next reset on; those that are not named get their defaults.

        Raises:
            ValueError: if there is no such factor, or the value is outside its bounds.
        """
        self._wanted = checked_values(self.factors, values)

    def _apply(self, values: Mapping[str, tuple[float, ...]]) -> None:
        """Makes the rooms look as the factors say."""
        (door,), (share,) = values["position.door"], values["size.agent"]
        (light,) = values["light.brightness"]
        self._applied = values
        self._door_y, self.agent_radius = door * self.image_size, share * self.image_size
        # The default colours are whole bytes: rounding them back gives exactly those.
        colours = {name: np.round(np.array(values[name]) * 255, 6) for name in _LOOK}
        self._agent_colour = (colours["colour.agent"] * light).clip(0, 255)
        background = self._draw_background(*(colours[name] for name in list(_LOOK)[1:]))
        self._background = (background * light).clip(0, 255)  # (height, width, 3) float

    # ------------------------------------------------------------------ geometry

    def is_free(self, position: np.ndarray) -> bool:
        """True where the whole disc stands on floor."""
        x, y = float(position[0]), float(position[1])
        low, high = self._border + self.agent_radius, self.image_size - self._border
        if not (low <= x <= high - self.agent_radius and low <= y <= high - self.agent_radius):
            return False
        beside_wall = (
            x + self.agent_radius <= self._wall_left or x - self.agent_radius >= self._wall_right
        )
        return beside_wall or self._fits_door(y)

    def room(self, position: np.ndarray) -> int:
        """0 left of the wall's middle, 1 right of it."""
        return int(position[0] > (self._wall_left + self._wall_right) / 2)

    def move(self, position: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Returns the position after `action`: small steps, each axis on its own, so it slides."""
        num_substeps = max(1, math.ceil(float(np.abs(action).max())))
        position = position.copy()
        for _ in range(num_substeps):
            for axis in (0, 1):
                moved = position.copy()
                moved[axis] += action[axis] / num_substeps
                if self.is_free(moved):
                    position = moved
        return position

    def sample_position(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a free position (2,), uniform over the floor."""
        while True:
            position = generator.uniform(0, self.image_size, size=2)
            if self.is_free(position):
                return position

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Draws start, goal and group: even ones in the same room, odd ones in different rooms.

        In the same room they are at least a quarter of the frame apart.
        """
        wants_same_room = index % 2 == 0
        while True:
            start, goal = self.sample_position(generator), self.sample_position(generator)
            same_room = self.room(start) == self.room(goal)
            if same_room != wants_same_room:
                continue
            if not same_room or np.linalg.norm(goal - start) >= self.image_size / 4:
                return start, goal, "same_room" if same_room else "different_rooms"

    def shortest_path_action(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The oracle: straight to the goal in the same room, else through the door."""
        target = goal
        if self.room(position) != self.room(goal) or not self._clear_of_wall(position):
            target = self._door_waypoint(position, goal)
        offset = target - position
        longest = float(np.abs(offset).max())
        return (offset * min(1.0, self.max_move / max(longest, 1e-9))).astype(np.float32)

    def shortest_path_length(self, position: np.ndarray, goal: np.ndarray) -> float:
        """Length in pixels of the way to the goal, through the door where it must."""
        if self.room(position) == self.room(goal):
            return float(np.linalg.norm(goal - position))
        near, far = self._door_sides(position)
        legs = (near - position, far - near, goal - far)
        return float(sum(np.linalg.norm(leg) for leg in legs))

    # ------------------------------------------------------------------ pictures

    def render(self, position: np.ndarray) -> np.ndarray:
        """Draws the world with the agent at `position`: (height, width, 3) uint8."""
        column, row = position
        return with_disc(
            self._background, self._agent_colour, column=column, row=row, radius=self.agent_radius
        )

    @property
    def background(self) -> np.ndarray:
        """The rooms without the agent: (height, width, 3) uint8."""
        return self._background.round().astype(np.uint8)

    def _draw_background(
        self, left_floor: np.ndarray, right_floor: np.ndarray, wall: np.ndarray
    ) -> np.ndarray:
        size = self.image_size
        y, x = np.mgrid[:size, :size] + 0.5
        u, v = x / size, y / size
        shade = 10 * np.sin(7.1 * u + 2.3 * v) + 9 * np.sin(11.3 * v - 3.7 * u + 1.0)
        floor = np.where((u < 0.5)[..., None], left_floor, right_floor)
        image = floor + shade[..., None]
        outside = (np.minimum(x, y) < self._border) | (np.maximum(x, y) > size - self._border)
        inside_wall = (x > self._wall_left) & (x < self._wall_right)
        in_door = np.abs(y - self._door_y) < self._door_half_height
        image[outside | (inside_wall & ~in_door)] = wall
        return np.clip(image, 0, 255)

    # ------------------------------------------------------------------ private

    def _walk(self, action: np.ndarray) -> None:
        assert self._position is not None
        self._position = self.move(self._position, self.action_spec.validate(action))

    def _aim_for(self, goal_position: np.ndarray) -> TimeStep:
        self._goal = Goal(self.render(goal_position), goal_position.astype(np.float32))
        self._steps = 0
        return self._time_step()

    def _time_step(self) -> TimeStep:
        assert self._position is not None
        is_success = self.distance_to_goal() < self.success_distance
        frame = self.render(self._position)
        return TimeStep(frame, self._position.astype(np.float32), is_success, self._is_last())

    def _is_last(self) -> bool:
        return self._steps >= self.max_steps or self.distance_to_goal() < self.success_distance

    def _free(
        self, position: np.ndarray | None, what: str, generator: np.random.Generator
    ) -> np.ndarray:
        if position is None:
            return self.sample_position(generator)
        position = np.asarray(position, dtype=np.float64)
        if position.shape != (2,) or not self.is_free(position):
            raise ValueError(
                f"{what} must be a free position (x, y) in pixels, got {position.tolist()}"
            )
        return position.copy()

    def _fits_door(self, y: float) -> bool:
        half_gap = self._door_half_height - self.agent_radius
        return abs(y - self._door_y) <= half_gap

    def _clear_of_wall(self, position: np.ndarray) -> bool:
        x = float(position[0])
        return x + self.agent_radius <= self._wall_left or x - self.agent_radius >= self._wall_right

    def _door_sides(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self._door_y
        left = np.array([self._wall_left - self.agent_radius, y])
        right = np.array([self._wall_right + self.agent_radius, y])
        return (left, right) if self.room(position) == 0 else (right, left)

    def _door_waypoint(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        near, far = self._door_sides(position)
        if self.room(position) == self.room(goal):
            return near  # standing in the door, goal in this room: step out of it first
        if self._fits_door(float(position[1])):
            return far + np.sign(far - near) * 0.5  # lined up with the door: walk through
        return near
