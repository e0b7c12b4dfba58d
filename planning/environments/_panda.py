"""What the three tasks of the Panda share: actions, states, what can vary, and how tasks are drawn.

An action is a pose difference in the convention of DROID and V-JEPA 2-AC (arXiv:2506.09985, Sec.
3.1), four a second; a state is the pose of the hand and how far the gripper is closed. The cube is
in no state, as a robot would not know it, but in the configuration.

An action is what is commanded, and recorded so. What the hand did with it, which is what 2-AC
learns from, is the difference of two states: `actions: pose_difference` of the training data. Roll
is in [0, 2 pi), not in [-pi, pi]: where the hand points down, which it mostly does, that would jump
between pi and -pi with each breath of the simulation. The rotation is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from planning.actions.poses import actions_between, euler_from_matrix
from planning.actions.space import ActionSpec
from planning.capabilities import Factor
from planning.environments._panda_table import (
    CAMERA,
    FINGER_TRAVEL,
    STEPS_PER_SECOND,
    TABLE_HEIGHT,
    PandaTable,
    closedness_of,
)
from planning.environments._robot_tasks import (
    VIEW_FACTORS,
    RobotTask,
    defaults_of,
    moved_camera,
)
from planning.goal_simulation import Values
from planning.mujoco_rendering import body_names_of
from planning.rendered_labels import RenderedLabels

if TYPE_CHECKING:
    from planning.types import Environment, TimeStep

CUBE_EDGE, CUBE_MASS, FRICTION = 0.042, 0.075, 1.0
HAND_LOW, HAND_HIGH = np.array([0.42, -0.22, -0.02]), np.array([0.68, 0.22, 0.24])  # starts
CUBE_LOW, CUBE_HIGH = np.array([0.46, -0.17]), np.array([0.66, 0.17])  # x and y
GROUND = -0.092  # of the hand, where its fingers reach the cube

_FACTORS = {
    "colour.arm": Factor((0.0,) * 3, (1.0,) * 3, (0.92, 0.92, 0.95)),
    "colour.cube": Factor((0.0,) * 3, (1.0,) * 3, (0.8, 0.12, 0.12)),
    "colour.table": Factor((0.0,) * 3, (1.0,) * 3, (0.75, 0.72, 0.66)),
    **VIEW_FACTORS,
    "size.cube": Factor((0.03,), (0.06,), (CUBE_EDGE,)),  # metres
    "mass.cube": Factor((0.02,), (0.5,), (CUBE_MASS,)),  # kilogrammes
    "friction.cube": Factor((0.2,), (1.5,), (FRICTION,)),
}


@dataclass
class PandaTask(RobotTask):
    """A task of the Panda.

    Args:
        image_size: height and width of a frame in pixels, 32 to 512.
        max_steps: steps until an episode ends without success; 4 are a second.
        max_move: largest translation of one step along an axis, in metres.
        max_turn: largest turn of one step about an axis, in radians.
        has_fine_meshes: draw the arm in all detail, which takes ten times as long on a processor.
    """

    image_size: int = 64
    max_steps: int = 40
    max_move: float = 0.075
    max_turn: float = 0.3
    has_fine_meshes: bool = False
    frames_per_second: float = field(default=STEPS_PER_SECOND, init=False)
    state_names: tuple[str, ...] = field(
        default=("x", "y", "z", "roll", "pitch", "yaw", "gripper"), init=False
    )
    state_units: tuple[str, ...] = field(
        default=("metre",) * 3 + ("radian",) * 3 + ("closedness",), init=False
    )
    configuration_names: tuple[str, ...] = field(
        default=(
            *(f"joint{index}" for index in range(1, 8)),
            *("finger1", "finger2", "cube_x", "cube_y", "cube_z"),
            *("cube_qw", "cube_qx", "cube_qy", "cube_qz", "gripper_command"),
        ),
        init=False,
    )
    success_distance: float = field(default=0.05, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        for name, most in (("max_move", 0.2), ("max_turn", 1.0)):
            if not 0 < getattr(self, name) <= most:
                raise ValueError(f"{name} must be in (0, {most}], got {getattr(self, name)}")
        self._table = PandaTable(self.image_size, has_fine_meshes=self.has_fine_meshes)
        self._apply(defaults_of(self))

    # ------------------------------------------------------------------ the contract

    @property
    def action_spec(self) -> ActionSpec:
        """A pose difference: metres and extrinsic x-y-z Euler angles in the base frame.

        The last is the change of how far the gripper is told to close, from 0 (open) to 1. A hand
        at rest covers about nine tenths of a movement within the step, and the rest after it; a
        place outside the workspace becomes the nearest inside. The gripper needs two steps to
        close or open wholly.
        """
        names = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "dgripper")
        units = ("metre",) * 3 + ("radian",) * 3 + ("closedness",)
        high = (self.max_move,) * 3 + (self.max_turn,) * 3 + (1.0,)
        return ActionSpec(names, units, tuple(-bound for bound in high), high)

    @property
    def meanings(self) -> Mapping[str, str]:
        """What poses and actions are, as DROID's are told, but for actions that are commands."""
        return {
            "frame": "base",
            "rotation": "extrinsic xyz Euler, radians",  # what `pose_difference` asks for
            "gripper": "closedness, 0 open to 1 closed",
            "action_kind": "commanded pose difference",
        }

    @property
    def configuration(self) -> np.ndarray:
        """(17,), float64: joints, fingers, the cube, and the command of the gripper."""
        return self._table.configuration

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, camera (degrees, and a share of the distance), light, and the cube's physics."""
        return _FACTORS

    @property
    def _model_and_data(self) -> tuple[Any, Any]:
        return self._table.model, self._table.data

    @property
    def _bounds(self) -> tuple[list[float], list[float]]:
        low, high = self._table.joint_limits
        least = [*(low - 0.02), -0.01, -FINGER_TRAVEL - 0.01, *[-2.0] * 3, *[-1.1] * 4, -0.01]
        greatest = [*(high + 0.02), FINGER_TRAVEL + 0.01, 0.01, *[2.0] * 3, *[1.1] * 4, 1.01]
        return least, greatest

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns it as float64, a copy.

        A cube half in the table is put on it: the task may have been drawn for a smaller one.

        Raises:
            ValueError: if it is not 17 finite numbers inside their bounds with a quaternion.
        """
        checked = super().checked_configuration(configuration, what)
        length = float(np.linalg.norm(checked[12:16]))
        if not 0.9 <= length <= 1.1:
            raise ValueError(f"{what} must be possible: the cube's quaternion has length {length}")
        if TABLE_HEIGHT < checked[11] < self._table.resting_height - 0.002:
            checked[11] = self._table.resting_height
        return checked

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws everything in a configuration: (height, width, 3) uint8; moves nothing."""
        return self._table.draw(configuration)

    def labels_at(self, configuration: np.ndarray) -> RenderedLabels:
        """Returns what is where in the picture of `render`."""
        return self._table.labels_at(configuration)

    @property
    def body_names(self) -> tuple[str, ...]:
        """Names of the bodies in `labels_at`."""
        return body_names_of(self._table.model)

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        self._table.place(configuration)

    def _act(self, action: np.ndarray) -> None:
        self._table.move(np.asarray(action, dtype=np.float64))

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        position, rotation = self._table.hand_at(configuration)
        angles = euler_from_matrix(torch.from_numpy(rotation)).numpy()
        angles[0] %= 2 * math.pi  # a hand that points down has pi, and -pi is far from that
        return np.array([*position, *angles, closedness_of(configuration)])

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns how far the cube is from where it is in the goal, in metres."""
        return float(np.linalg.norm(configuration[9:12] - goal[9:12]))

    def _change(self, values: Values) -> None:
        camera = moved_camera(CAMERA, values)
        colours = {name: values[f"colour.{name}"] for name in ("arm", "cube", "table")}
        self._table.look(camera=camera, brightness=values["light.brightness"][0], colours=colours)
        self._table.shape_cube(
            edge=values["size.cube"][0],
            mass=values["mass.cube"][0],
            friction=values["friction.cube"][0],
        )

    # ------------------------------------------------------------------ drawing tasks

    def _configuration_of(
        self, hand: np.ndarray, cube: np.ndarray, *, yaw: float = 0.0, closedness: float = 0.0
    ) -> np.ndarray:
        """Returns the configuration (17,) of a hand that points down, and a cube as it lies.

        Args:
            hand: (3,), its place.
            cube: (7,), its place and quaternion.
            yaw: turn of the hand, in radians.
            closedness: of the gripper.
        """
        opening = FINGER_TRAVEL * (1 - closedness)
        joints = self._table.joints_for(hand, yaw)
        return np.concatenate([joints, [opening, -opening], cube, [closedness]])

    def _sample_start(self, generator: np.random.Generator) -> np.ndarray:
        """Draws an open hand in the air, and a cube on the table."""
        hand = generator.uniform(HAND_LOW, HAND_HIGH)
        place = np.append(generator.uniform(CUBE_LOW, CUBE_HIGH), self._table.resting_height)
        return self._configuration_of(hand, cube_at(place, generator.uniform(-math.pi, math.pi)))

    # ------------------------------------------------------------------ experts

    def _toward(
        self, position: np.ndarray, *, closedness: float, yaw: float | None = None
    ) -> np.ndarray:
        """The action that leads towards a place, straight, pointing down if a yaw is given."""
        table = self._table
        angles = euler_from_matrix(torch.from_numpy(table.hand_rotation)).numpy()
        pose = np.array([*table.hand_position, *angles, table.gripper_command])
        wanted = np.array([*position, *angles, closedness])
        if yaw is not None:
            wanted[3:6] = math.pi, 0.0, yaw
        action = actions_between(torch.from_numpy(pose), torch.from_numpy(wanted)).numpy()
        action[:3] /= max(1.0, float(np.abs(action[:3]).max()) / self.max_move)
        action[3:6] /= max(1.0, float(np.abs(action[3:6]).max()) / self.max_turn)
        return action.astype(np.float32)


def cube_at(place: np.ndarray, yaw: float) -> np.ndarray:
    """(7,): a place and the quaternion (wxyz) of a cube that lies flat."""
    return np.array([*place, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])


def policy_of(act: Callable[[], np.ndarray]) -> Callable[..., np.ndarray]:
    """Makes a policy of what looks at the simulation itself."""

    def policy(
        environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        return act()

    return policy
