"""Wall: a dot goes from one room to the other through a door, on a canvas of 65 x 65 pixels.

The Wall task of DINO-WM (arXiv:2411.04983) and JEPA-WMs (arXiv:2512.24497), which is the two-rooms
world of PLDM and eb_jepa: a canvas of 65 x 65 pixels, a start in one room, a goal (in the other for
DINO-WM, in either of the two for JEPA-WMs), and success within 4.5 pixels; a step of at most 2.45
pixels is eb_jepa's. These are the facts; where they end, this file decides: the wall is 6 pixels
thick and in the middle, the door 12 high at a third of the height, the border 5; the dot has no
extent where it collides, and stops there (it does not slide). Pictures are this file's own too, so
numbers are comparable with the papers' in kind, not digit by digit.

Coordinates are pixels of the canvas, x to the right, y down, whatever the size of a frame.
`two_rooms` is the same family with a disc that slides, a larger step and another drawing. No
dependency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from planning.actions.limits import NormLimit
from planning.actions.space import ActionSpec
from planning.capabilities import Acts, Factor
from planning.environments._painting import averaged, with_disc
from planning.experts.waypoints import WaypointMap
from planning.goal_simulation import GoalSimulation, Values

CANVAS_PIXELS = 65.0
BORDER_PIXELS = 5.0
WALL_PIXELS = 6.0
DOOR_PIXELS = 12.0
DOT_RADIUS_PIXELS = 2.5
MAX_STEP_PIXELS = 2.45
MOVES_PER_STEP = 16
SUPERSAMPLING = 4

_COLOUR = (0.0,) * 3, (1.0,) * 3
FACTORS = {
    "colour.agent": Factor(*_COLOUR, (0.93, 0.42, 0.25)),
    "colour.background": Factor(*_COLOUR, (0.12, 0.14, 0.18)),
    "colour.wall": Factor(*_COLOUR, (0.80, 0.82, 0.78)),
    "light.brightness": Factor((0.4,), (1.2,), (1.0,)),
    "position.door": Factor((15.0,), (50.0,), (22.0,)),
    "position.wall": Factor((22.0,), (43.0,), (32.5,)),
    "size.agent": Factor((1.5,), (4.0,), (DOT_RADIUS_PIXELS,)),
}


@dataclass
class Wall(GoalSimulation):
    """The environment; a state is (x, y).

    Args:
        image_size: height and width of a frame in pixels; published models see 224.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    max_steps: int = 60
    name: str = field(default="wall", init=False)
    frames_per_second: float = field(default=10.0, init=False)
    state_names: tuple[str, ...] = field(default=("x", "y"), init=False)
    state_units: tuple[str, ...] = field(default=("pixel", "pixel"), init=False)
    configuration_names: tuple[str, ...] = field(default=("x", "y"), init=False)
    success_distance: float = field(default=4.5, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        self._position = np.full(2, CANVAS_PIXELS / 4)
        self._apply({name: factor.default for name, factor in FACTORS.items()})

    @property
    def action_spec(self) -> ActionSpec:
        """(dx, dy) in pixels of the canvas, together at most 2.45 long."""
        low, high = (-MAX_STEP_PIXELS,) * 2, (MAX_STEP_PIXELS,) * 2
        norm = NormLimit(("dx", "dy"), MAX_STEP_PIXELS)
        return ActionSpec(
            ("dx", "dy"), ("pixel/step", "pixel/step"), low, high, norm_limits=(norm,)
        )

    @property
    def configuration(self) -> np.ndarray:
        """(x, y) in pixels of the canvas."""
        return self._position.copy()

    # ------------------------------------------------------------------ what can vary, who knows

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, light, where door (y) and wall (x) are, and the dot's radius, in pixels."""
        return FACTORS

    def make_expert(self) -> Acts:
        """Returns a policy that walks the shortest way over a grid."""
        ways = WaypointMap(lambda p: self.are_free(p, 1.5), 0.0, CANVAS_PIXELS, 1.0)

        def walk(environment: object, time_step: object, generator: object) -> np.ndarray:
            assert self._goal_configuration is not None
            waypoint = ways.next_waypoint(self._position, self._goal_configuration)
            offset = waypoint - self._position
            length = float(np.linalg.norm(offset))
            return (offset * min(1.0, MAX_STEP_PIXELS / max(length, 1e-9))).astype(np.float32)

        return walk

    # ------------------------------------------------------------------ places

    def are_free(self, points: np.ndarray, clearance: float = 0.0) -> np.ndarray:
        """Returns for points (num_points, 2) whether they are on the floor: (num_points,) bool."""
        x, y = points[:, 0], points[:, 1]
        low = BORDER_PIXELS + clearance
        inside = (points >= low).all(axis=-1) & (points <= CANVAS_PIXELS - low).all(axis=-1)
        beside_wall = np.abs(x - self._wall_x) >= WALL_PIXELS / 2 + clearance
        in_door = np.abs(y - self._door_y) <= DOOR_PIXELS / 2 - clearance
        return inside & (beside_wall | in_door)

    def room(self, position: np.ndarray) -> int:
        """0 left of the wall's middle, 1 right of it."""
        return int(position[0] > self._wall_x)

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a place (2,), uniform over the floor."""
        while True:
            place = generator.uniform(0, CANVAS_PIXELS, size=2)
            if self.are_free(place[None])[0]:
                return place

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Draws start, goal and group: even ones in different rooms, odd ones in the same room."""
        while True:
            start, goal, _ = super().draw_task(generator, index)
            if (self.room(start) == self.room(goal)) == (index % 2 == 1):
                return start, goal, "same_room" if index % 2 == 1 else "different_rooms"

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns a place (2,) on the floor.

        Raises:
            ValueError: if it is no such place.
        """
        place = np.array(configuration, dtype=np.float64)
        if place.shape != (2,) or not np.isfinite(place).all() or not self.are_free(place[None])[0]:
            raise ValueError(
                f"{what} must be a place (x, y) on the floor, in pixels of the canvas of 65 x 65, "
                f"got {place.tolist()}"
            )
        return place

    # ------------------------------------------------------------------ pictures

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws the rooms with the dot at a place: (height, width, 3) uint8."""
        scale = self.image_size / CANVAS_PIXELS
        return with_disc(
            self._rooms,
            self._dot_colour,
            column=configuration[0] * scale,
            row=configuration[1] * scale,
            radius=self._dot_radius * scale,
        )

    def _draw_rooms(self, values: Values) -> np.ndarray:
        size = self.image_size * SUPERSAMPLING
        rows, columns = (np.mgrid[:size, :size] + 0.5) * (CANVAS_PIXELS / size)
        floor = self.are_free(np.stack([columns, rows], axis=-1).reshape(-1, 2)).reshape(size, size)
        image = np.where(
            floor[..., None], np.array(values["colour.background"]), np.array(values["colour.wall"])
        )
        return averaged(image, SUPERSAMPLING)

    # ------------------------------------------------------------------ the simulation

    def _act(self, action: np.ndarray) -> None:
        """Walks along the straight line as far as it is free."""
        shares = np.arange(1, MOVES_PER_STEP + 1)[:, None] / MOVES_PER_STEP
        places = self._position + shares * action.astype(np.float64)
        free = self.are_free(places)
        num_free = len(places) if free.all() else int(free.argmin())
        if num_free:
            self._position = places[num_free - 1]

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        self._position = configuration.copy()

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        return configuration

    def _state_now(self) -> np.ndarray:
        return self._position

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        return math.dist(configuration, goal)

    def _saved(self) -> np.ndarray:
        return self._position.copy()

    def _load(self, saved: np.ndarray) -> None:
        self._position = saved.copy()

    def _apply(self, values: Values) -> None:
        (self._door_y,), (self._wall_x,) = values["position.door"], values["position.wall"]
        (self._dot_radius,), (light,) = values["size.agent"], values["light.brightness"]
        self._rooms = (self._draw_rooms(values) * light * 255).clip(0, 255)
        self._dot_colour = (np.array(values["colour.agent"]) * light * 255).clip(0, 255)
