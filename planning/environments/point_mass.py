"""A point mass: a disc with inertia is pushed about an arena, round obstacles if there are any.

The smallest world in which a picture does not show the whole state: the disc goes on by itself, so
a world model must know its velocity, from the state or from frames before. Coordinates are metres,
x to the right, y up, the middle of the arena at (0, 0). Drawn from above. No dependency.

A state is (x, y, x_velocity, y_velocity), so the velocity is known to who may look at states and
hidden from who sees one frame. A configuration, for starts and goals, is (x, y), at rest. Reaching
a goal is a matter of place alone: an episode may end while the disc is still moving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Factor
from planning.environments._painting import averaged, with_disc
from planning.experts.waypoints import WaypointExpert, WaypointMap
from planning.goal_simulation import GoalSimulation, Values

ARENA_HALF_METRES = 1.0
MAX_FORCE_NEWTONS = 4.0
DRAG = 3.0  # unless varied; newtons per metre per second: the top speed is 4 / 3 m/s
STEP_SECONDS = 0.1
NUM_SUBSTEPS = 10
EXPERT_CLEARANCE_METRES = 0.03
SUPERSAMPLING = 4

_COLOUR = (0.0,) * 3, (1.0,) * 3
FACTORS = {
    "colour.agent": Factor(*_COLOUR, (0.84, 0.23, 0.24)),
    "colour.background": Factor(*_COLOUR, (0.62, 0.75, 0.70)),
    "colour.obstacle": Factor(*_COLOUR, (0.23, 0.21, 0.26)),
    "light.brightness": Factor((0.4,), (1.6,), (1.0,)),
    "size.agent": Factor((0.06,), (0.14,), (0.1,)),
    "mass": Factor((0.4,), (2.5,), (1.0,)),
    "damping": Factor((0.75,), (12.0,), (DRAG,)),
}


@dataclass
class PointMass(GoalSimulation):
    """The environment.

    Args:
        image_size: height and width of a frame in pixels.
        obstacles: round ones, each (x, y, radius) in metres.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    obstacles: Sequence[Sequence[float]] = ()
    max_steps: int = 60
    name: str = field(default="point_mass", init=False)
    frames_per_second: float = field(default=1 / STEP_SECONDS, init=False)
    state_names: tuple[str, ...] = field(default=("x", "y", "x_velocity", "y_velocity"), init=False)
    state_units: tuple[str, ...] = field(default=("metre",) * 2 + ("metre/second",) * 2, init=False)
    configuration_names: tuple[str, ...] = field(default=("x", "y"), init=False)
    success_distance: float = field(default=0.1, init=False)

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [16, 512], got {self.image_size}")
        self._discs = _checked_discs(self.obstacles)
        self._position, self._velocity = np.zeros(2), np.zeros(2)
        self._apply({name: factor.default for name, factor in FACTORS.items()})
        if not self._share_of_free_places() > 0.05:
            raise ValueError(f"the obstacles leave no room for the disc: {self.obstacles}")

    @property
    def action_spec(self) -> ActionSpec:
        """The force on the disc in newtons, for a tenth of a second."""
        low, high = (-MAX_FORCE_NEWTONS,) * 2, (MAX_FORCE_NEWTONS,) * 2
        return ActionSpec(("x_force", "y_force"), ("newton",) * 2, low, high)

    @property
    def configuration(self) -> np.ndarray:
        """(x, y) in metres."""
        return self._position.copy()

    # ------------------------------------------------------------------ what can vary, who knows

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, light, the disc's radius in metres, its mass in kilograms, and the drag.

        The drag ("damping") is in newtons per metre per second.
        """
        absent = () if len(self._discs) else ("colour.obstacle",)
        return {name: factor for name, factor in FACTORS.items() if name not in absent}

    def make_expert(self) -> WaypointExpert:
        """Returns a controller that knows place, velocity and obstacles."""
        half = ARENA_HALF_METRES - self._radius
        ways = WaypointMap(self._is_clear, -half, half, 0.05)
        return WaypointExpert(ways, stiffness=16.0, damping=4.0)

    # ------------------------------------------------------------------ places

    def are_free(self, points: np.ndarray, clearance: float = 0.0) -> np.ndarray:
        """Returns for points (num_points, 2) whether the disc fits there: (num_points,) bool."""
        reach = self._radius + clearance
        half = ARENA_HALF_METRES - reach + 1e-9
        free = np.asarray((np.abs(points) <= half).all(axis=-1))
        for x, y, radius in self._discs:
            free &= np.hypot(points[:, 0] - x, points[:, 1] - y) >= radius + reach - 1e-9
        return free

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a place (2,), uniform over where the largest disc fits, so that any does."""
        spare = FACTORS["size.agent"].high[0] - self._radius
        while True:
            place = generator.uniform(-ARENA_HALF_METRES, ARENA_HALF_METRES, size=2)
            if self.are_free(place[None], spare)[0]:
                return place

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns a place (2,) at which the disc fits.

        Raises:
            ValueError: if it is no such place.
        """
        place = np.array(configuration, dtype=np.float64)
        if place.shape != (2,) or not np.isfinite(place).all() or not self.are_free(place[None])[0]:
            raise ValueError(
                f"{what} must be a free place (x, y) in metres, within "
                f"{ARENA_HALF_METRES - self._radius:g} of the middle, got {place.tolist()}"
            )
        return place

    # ------------------------------------------------------------------ pictures

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws the arena with the disc at a place: (height, width, 3) uint8."""
        scale = self.image_size / (2 * ARENA_HALF_METRES)
        return with_disc(
            self._floor,
            self._agent_colour,
            column=(configuration[0] + ARENA_HALF_METRES) * scale,
            row=(ARENA_HALF_METRES - configuration[1]) * scale,
            radius=self._radius * scale,
        )

    def _draw_floor(self, background: Sequence[float], obstacle: Sequence[float]) -> np.ndarray:
        size = self.image_size * SUPERSAMPLING
        rows, columns = np.mgrid[:size, :size] + 0.5
        x = columns / size * 2 * ARENA_HALF_METRES - ARENA_HALF_METRES
        y = ARENA_HALF_METRES - rows / size * 2 * ARENA_HALF_METRES
        shade = 0.05 * np.sin(3.1 * x + 1.7 * y) + 0.04 * np.sin(4.3 * y - 2.3 * x + 1.0)
        image = np.array(background) + shade[..., None]  # (height, width, 3)
        for disc_x, disc_y, radius in self._discs:
            image[np.hypot(x - disc_x, y - disc_y) < radius] = obstacle
        return averaged(image, SUPERSAMPLING)

    # ------------------------------------------------------------------ the simulation

    def _act(self, action: np.ndarray) -> None:
        seconds = STEP_SECONDS / NUM_SUBSTEPS
        for _ in range(NUM_SUBSTEPS):
            acceleration = (action - self._drag * self._velocity) / self._mass
            self._velocity = self._velocity + seconds * acceleration
            self._position = self._position + seconds * self._velocity
            self._slide_along_obstacles()

    def _slide_along_obstacles(self) -> None:
        """Puts the disc back out of what it ran into; only the speed along that remains."""
        for x, y, radius in self._discs:
            offset = self._position - (x, y)
            distance, nearest = math.hypot(*offset), radius + self._radius
            if distance < nearest:
                normal = offset / distance if distance > 0 else np.array([1.0, 0.0])
                self._position = np.array([x, y]) + nearest * normal
                self._velocity = self._velocity - min(0.0, self._velocity @ normal) * normal
        half = ARENA_HALF_METRES - self._radius
        is_outside = np.abs(self._position) > half
        self._position = self._position.clip(-half, half)
        self._velocity = np.where(is_outside, 0.0, self._velocity)

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        self._position, self._velocity = configuration.copy(), np.zeros(2)

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        return np.concatenate([configuration, np.zeros(2)])

    def _state_now(self) -> np.ndarray:
        return self._saved()

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        return float(np.linalg.norm(configuration - goal))

    def _saved(self) -> np.ndarray:
        return np.concatenate([self._position, self._velocity])

    def _load(self, saved: np.ndarray) -> None:
        self._position, self._velocity = saved[:2].copy(), saved[2:].copy()

    def _apply(self, values: Values) -> None:
        (self._radius,), (self._mass,) = values["size.agent"], values["mass"]
        (self._drag,) = values["damping"]
        (light,) = values["light.brightness"]
        obstacle = values.get("colour.obstacle", FACTORS["colour.obstacle"].default)
        floor = self._draw_floor(values["colour.background"], obstacle)
        self._floor = (floor * light * 255).clip(0, 255)
        self._agent_colour = (np.array(values["colour.agent"]) * light * 255).clip(0, 255)

    def _is_clear(self, points: np.ndarray) -> np.ndarray:
        return self.are_free(points, EXPERT_CLEARANCE_METRES if len(self._discs) else 0.0)

    def _share_of_free_places(self) -> float:
        ticks = np.linspace(-ARENA_HALF_METRES, ARENA_HALF_METRES, 41)
        points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        return float(self.are_free(points, FACTORS["size.agent"].high[0] - self._radius).mean())


def _checked_discs(obstacles: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns obstacles as (num_obstacles, 3).

    Raises:
        ValueError: if they are not x, y and a radius each.
    """
    try:
        discs = np.array(obstacles, dtype=np.float64)
    except (TypeError, ValueError):
        discs = np.full((1, 1), np.nan)
    is_rows = discs.ndim == 2 and discs.shape[1] == 3
    if discs.shape != (0,) and not (
        is_rows and np.isfinite(discs).all() and (discs[:, 2] > 0).all()
    ):
        raise ValueError(
            "each obstacle must be (x, y, radius) in metres with a radius above 0, got "
            f"{obstacles!r}"
        )
    return discs.reshape(-1, 3)
