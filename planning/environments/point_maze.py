"""PointMaze: a ball is pushed through a maze whose shape of a U hides the way to the goal.

Wraps PointMaze of gymnasium-robotics (D4RL's maze2d), with goals as in DINO-WM (arXiv:2411.04983)
and JEPA-WMs (arXiv:2512.24497): start and goal are drawn uniformly from the free floor, the goal is
a picture, and within 0.5 of it is a success. Coordinates are MuJoCo's metres, the middle of the
maze at (0, 0), so DINO-WM's [0.5, 3.1] is [-1.5, 1.1] here; the mark of the goal is not drawn.

A state is (x, y, x_velocity, y_velocity), as the proprioception of those papers; a configuration is
(x, y), at rest. What is known of those protocols ends there: by how much their random starts move
is not, so an episode starts at rest unless `max_start_speed` says otherwise; and an action is held
for `action_repeat` steps of 0.01 s here, where they join 5 actions of one step (1 gives those).

Install with: pip install 'jepa-planning[sim]'.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Factor
from planning.experts.waypoints import WaypointExpert, WaypointMap
from planning.goal_simulation import GoalSimulation, Values
from planning.mujoco_rendering import (
    MujocoRenderer,
    Orbit,
    body_names_of,
    load_mujoco,
    load_physics,
    save_physics,
)
from planning.rendered_labels import RenderedLabels

if TYPE_CHECKING:
    from gymnasium_robotics.envs.maze.point_maze import (  # pyright: ignore[reportMissingImports]
        PointMazeEnv,
    )

PHYSICS_STEP_SECONDS = 0.01
BALL_RADIUS_METRES = 0.1
MAX_SPEED = 5.0  # metres per second along an axis: the simulator's own limit
LAYOUTS = {
    "umaze": ("11111", "10001", "11101", "10001", "11111"),
    "medium": (
        "11111111",
        "10011001",
        "10010001",
        "11000111",
        "10010001",
        "10100101",
        "10001001",
        "11111111",
    ),
}

_COLOUR = (0.0,) * 3, (1.0,) * 3
FACTORS = {
    "colour.agent": Factor(*_COLOUR, (0.3, 0.6, 0.3)),
    "colour.background": Factor(*_COLOUR, (0.15, 0.25, 0.35)),
    "colour.wall": Factor(*_COLOUR, (0.7, 0.5, 0.3)),
    "camera.yaw": Factor((-20.0,), (20.0,), (0.0,)),
    "camera.pitch": Factor((0.0,), (25.0,), (0.0,)),
    "light.brightness": Factor((0.4,), (1.6,), (1.0,)),
    "size.agent": Factor((0.12,), (0.3,), (0.2,)),
}


@dataclass
class PointMaze(GoalSimulation):
    """The environment.

    Args:
        image_size: height and width of a frame in pixels.
        layout: "umaze" (3 x 3 cells, the published one) or "medium" (6 x 6).
        action_repeat: steps of the simulator, 0.01 s each, for which an action is held.
        max_start_speed: largest start velocity along an axis, drawn uniformly; metres per second.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    layout: str = "umaze"
    action_repeat: int = 5
    max_start_speed: float = 0.0
    max_steps: int = 100
    name: str = field(default="point_maze", init=False)
    frames_per_second: float = field(init=False)
    state_names: tuple[str, ...] = field(default=("x", "y", "x_velocity", "y_velocity"), init=False)
    state_units: tuple[str, ...] = field(default=("metre",) * 2 + ("metre/second",) * 2, init=False)
    configuration_names: tuple[str, ...] = field(default=("x", "y"), init=False)
    success_distance: float = field(default=0.5, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if not 1 <= self.action_repeat <= 100:
            raise ValueError(f"action_repeat must be in [1, 100], got {self.action_repeat}")
        if not 0 <= self.max_start_speed <= MAX_SPEED:
            raise ValueError(
                f"max_start_speed must be in [0, {MAX_SPEED:g}], got {self.max_start_speed}"
            )
        self.frames_per_second = 1 / (PHYSICS_STEP_SECONDS * self.action_repeat)
        self._is_wall = np.array([[c == "1" for c in row] for row in LAYOUTS[self.layout]])
        self._simulator = _made_simulator(self._is_wall).point_env
        # As near as shows the whole floor, beyond walls of 0.4, with a rim of the outer ones.
        distance = (len(self._is_wall) - 2 + 0.3) / (2 * math.tan(math.radians(22.5))) + 0.4
        self._look_at_default = Orbit((0.0, 0.0, 0.0), distance)
        self._painter = MujocoRenderer(
            self._simulator.model, self.image_size, self._look_at_default, hidden=("target",)
        )
        self._painted = load_mujoco().MjData(self._simulator.model)
        self._apply({name: factor.default for name, factor in FACTORS.items()})

    @property
    def action_spec(self) -> ActionSpec:
        """The force on the ball along x and y, as a share of the largest."""
        return ActionSpec(("x_force", "y_force"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0))

    @property
    def configuration(self) -> np.ndarray:
        """(x, y) in metres."""
        return np.array(self._simulator.data.qpos, dtype=np.float64)

    # ------------------------------------------------------------------ what can vary, who knows

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, camera (degrees), light, and the size at which the ball is drawn (metres)."""
        return FACTORS

    def make_expert(self) -> WaypointExpert:
        """Returns a controller that knows place, velocity and the maze."""
        half = len(self._is_wall) / 2
        clearance = BALL_RADIUS_METRES + 0.1
        ways = WaypointMap(lambda points: self.are_free(points, clearance), -half, half, 0.125)
        return WaypointExpert(ways, stiffness=6.0, damping=1.2)

    # ------------------------------------------------------------------ places

    def are_free(self, points: np.ndarray, clearance: float = BALL_RADIUS_METRES) -> np.ndarray:
        """Returns for points (num_points, 2) whether a square around them is off the walls.

        Args:
            points: in metres.
            clearance: half a side of the square.
        """
        corners = clearance * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
        cells = points[:, None] + corners  # (num_points, corners, 2)
        half = len(self._is_wall) / 2
        rows = np.floor(half - cells[..., 1]).astype(int).clip(0, len(self._is_wall) - 1)
        columns = np.floor(cells[..., 0] + half).astype(int).clip(0, len(self._is_wall) - 1)
        return np.asarray(~self._is_wall[rows, columns].any(axis=-1))

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a place (2,), uniform over the floor where the ball fits."""
        half = len(self._is_wall) / 2
        while True:
            place = generator.uniform(-half, half, size=2)
            if self.are_free(place[None])[0]:
                return place

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns a place (2,) that is not inside a wall.

        A ball that has been pushed against a wall is a little inside it, so its middle counts.

        Raises:
            ValueError: if it is no such place.
        """
        place = np.array(configuration, dtype=np.float64)
        is_sound = place.shape == (2,) and bool(np.isfinite(place).all())
        if not is_sound or not self.are_free(place[None], clearance=0.0)[0]:
            raise ValueError(
                f"{what} must be a place (x, y) in metres on the floor of the maze, within "
                f"{len(self._is_wall) / 2 - 1:g} of its middle, got {place.tolist()}"
            )
        return place

    # ------------------------------------------------------------------ pictures

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws the maze from above with the ball at a place: (height, width, 3) uint8."""
        self._painted.qpos[:] = configuration
        return self._painter.render(self._painted)

    def labels_at(self, configuration: np.ndarray) -> RenderedLabels:
        """Returns what is where in the picture of `render`."""
        self._painted.qpos[:] = configuration
        return self._painter.render_labels(self._painted)

    @property
    def body_names(self) -> tuple[str, ...]:
        """Names of the bodies in `labels_at`."""
        return body_names_of(self._painter.model)

    def _apply(self, values: Values) -> None:
        walls = [f"block_{row}_{column}" for row, column in np.argwhere(self._is_wall)]
        named = {
            "colour.agent": ["particle_site"],
            "colour.background": ["ground"],
            "colour.wall": walls,
        }
        self._painter.look(
            camera=self._look_at_default.moved(
                yaw=values["camera.yaw"][0], pitch=values["camera.pitch"][0]
            ),
            brightness=values["light.brightness"][0],
            colours={
                part: values[factor]
                for factor, parts in named.items()
                for part in parts
                if values[factor] != FACTORS[factor].default  # keeps the pattern of the floor
            },
        )
        self._painter.model.site("particle_site").size[0] = values["size.agent"][0]

    # ------------------------------------------------------------------ the simulation

    def _act(self, action: np.ndarray) -> None:
        for _ in range(self.action_repeat):
            self._simulator.step(action.astype(np.float64))

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        self._simulator.reset()
        speed = self.max_start_speed
        velocity = generator.uniform(-speed, speed, size=2) if speed else np.zeros(2)
        self._simulator.set_state(configuration, velocity)

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        return np.concatenate([configuration, np.zeros(2)])

    def _state_now(self) -> np.ndarray:
        return np.concatenate([self._simulator.data.qpos, self._simulator.data.qvel])

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        return float(np.linalg.norm(configuration - goal))

    def _saved(self) -> np.ndarray:
        return save_physics(self._simulator.model, self._simulator.data)

    def _load(self, saved: np.ndarray) -> None:
        load_physics(self._simulator.model, self._simulator.data, saved)


def _made_simulator(is_wall: np.ndarray) -> PointMazeEnv:
    load_mujoco()
    try:
        from gymnasium_robotics.envs.maze.point_maze import (  # pyright: ignore[reportMissingImports]
            PointMazeEnv,
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            f"PointMaze needs the simulator extra: pip install 'jepa-planning[sim]' ({error})"
        ) from error
    environment = PointMazeEnv(maze_map=is_wall.astype(int).tolist())
    os.remove(environment.tmp_xml_file_path)  # the simulator writes it to read it, and leaves it
    return environment
