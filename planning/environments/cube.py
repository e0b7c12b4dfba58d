"""Cube: a robot arm carries a cube over the floor to where a picture shows it, within 4 cm.

OGBench's cube-single (arXiv:2410.20092): a UR5e with a Robotiq gripper, 20 actions a second, with
its physics, bounds and draws of data collection. In the goal picture the arm is anywhere above the
floor, as there. Two deviations, which `has_ogbench_control=True` takes back: the weight of the arm
is compensated (OGBench's hand sinks by 3 cm a second when it is told to stay), and the gripper
stays as it was told (OGBench's opens slowly, and lets go of the cube, unless it is told to close at
every step). A third is always there: what is derived from positions is up to date when an action
begins, not 2 ms old.

Pictures show OGBench's scene for pixels without the target, and by default with simple shapes for
arm and gripper; the gripper is solid and not transparent, as a planner has to see it.

Install with: pip install 'jepa-planning[sim-robot]'. No display is needed.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Acts, Factor
from planning.environments._robot_tasks import (
    VIEW_FACTORS,
    RobotTask,
    defaults_of,
    moved_camera,
    prepare_for,
)
from planning.goal_simulation import Values, unreached_goal
from planning.mujoco_rendering import MujocoRenderer, load_mujoco, orbit_of_camera

CUBE_EDGE, CUBE_MASS = 0.04, 0.064
HEIGHT = CUBE_EDGE / 2  # of the middle of the cube
CUBE_LOW, CUBE_HIGH = np.array([0.3, -0.3]), np.array([0.55, 0.3])
LOOK_AT = (0.42, 0.0, 0.05)
PURPLE, GLASS = (0.61, 0.28, 0.82, 1.0), (0.8, 0.8, 0.8, 0.1)

_NUM_JOINTS = 14  # of arm and gripper; the cube follows
_FACTORS = {
    "colour.cube": Factor((0.0,) * 3, (1.0,) * 3, (0.96, 0.26, 0.33)),
    "colour.floor": Factor((0.0,) * 3, (1.0,) * 3, (0.12, 0.15, 0.2)),  # the default is a pattern
    **VIEW_FACTORS,
    "mass.cube": Factor((0.02,), (0.5,), (CUBE_MASS,)),  # kilogrammes
    "friction.cube": Factor((0.3,), (1.5,), (1.0,)),
}


@dataclass
class Cube(RobotTask):
    """The environment; a state is the hand's place, its yaw and how far the gripper is closed.

    Args:
        image_size: height and width of a frame in pixels, 32 to 512.
        max_steps: steps until an episode ends without success; OGBench's evaluation has 200.
        has_fine_meshes: draw OGBench's own transparent arm, which takes several times as long.
        has_ogbench_control: let the arm sink and the gripper relax, as OGBench does.
    """

    image_size: int = 64
    max_steps: int = 200
    has_fine_meshes: bool = False
    has_ogbench_control: bool = False
    name: str = field(default="cube", init=False)
    frames_per_second: float = field(default=20.0, init=False)
    state_names: tuple[str, ...] = field(default=("x", "y", "z", "yaw", "gripper"), init=False)
    state_units: tuple[str, ...] = field(
        default=("metre",) * 3 + ("radian", "closedness"), init=False
    )
    configuration_names: tuple[str, ...] = field(
        default=(
            *(f"arm{index}" for index in range(1, 7)),
            *(f"gripper{index}" for index in range(1, 9)),
            *("cube_x", "cube_y", "cube_z", "cube_qw", "cube_qx", "cube_qy", "cube_qz"),
            "gripper_command",
        ),
        init=False,
    )
    success_distance: float = field(default=0.04, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        self._simulator = _new_simulator(has_weight=self.has_ogbench_control)
        self._model, self._data = self._simulator._model, self._simulator._data
        self._imagined = load_mujoco().MjData(self._model)
        drawn = copy.copy(self._model)
        if not self.has_fine_meshes:
            _draw_simple_shapes(drawn)
        self._orbit = orbit_of_camera(drawn, "front_pixels", LOOK_AT)
        hidden = ("target_object_0",)
        self._painter = MujocoRenderer(drawn, self.image_size, self._orbit, hidden=hidden)
        self._apply(defaults_of(self))

    # ------------------------------------------------------------------ the contract

    @property
    def action_spec(self) -> ActionSpec:
        """(dx, dy, dz, dyaw, dgripper): where the hand is told to go from where it is.

        OGBench's actions times what it scales them by. The gripper is told to be so much further
        closed than it was told before. A hand at rest covers a part of the way within a step.
        """
        high = (0.05, 0.05, 0.05, 0.3, 1.0)
        names, low = ("dx", "dy", "dz", "dyaw", "dgripper"), tuple(-bound for bound in high)
        return ActionSpec(names, ("metre",) * 3 + ("radian", "closedness"), low, high)

    @property
    def meanings(self) -> Mapping[str, str]:
        """What states and actions are."""
        return {
            "frame": "world",
            "rotation": "yaw about the vertical, radians",
            "gripper": "closedness, 0 open to 1 closed",
            "action_kind": "commanded change of the hand's place and yaw",
        }

    @property
    def configuration(self) -> np.ndarray:
        """(22,), float64: angles of arm and gripper, the cube (quaternion wxyz), the command."""
        return np.append(self._data.qpos, self._gripper_command)

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, camera (degrees, and a share of the distance), light, and the cube's physics."""
        return _FACTORS

    def make_expert(self) -> Acts:
        """Returns OGBench's scripted policy: it grasps, carries and releases."""
        from ogbench.manipspace.oracles.markov.cube_markov import (  # pyright: ignore[reportMissingImports]
            CubeMarkovOracle,
        )

        oracle = CubeMarkovOracle(env=self._simulator)
        # Its reset draws from numpy's global randomness where to go after success.
        oracle._done, oracle._step, oracle._max_step = False, 0, 10**9
        oracle._final_pos, oracle._final_yaw = np.array([0.425, 0.0, 0.3]), 0.0
        scale = np.array(self.action_spec.high)

        def policy(*_: Any) -> np.ndarray:  # noqa: ANN401
            self._show_target()
            action = oracle.select_action(None, self._simulator.compute_ob_info())
            return (action * scale).astype(np.float32)

        return policy

    # ------------------------------------------------------------------ places and pictures

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns it as float64, a copy.

        Raises:
            ValueError: if it is not 22 finite numbers inside their bounds with a quaternion.
        """
        checked = super().checked_configuration(configuration, what)
        length = float(np.linalg.norm(checked[17:21]))
        if not 0.9 <= length <= 1.1:
            raise ValueError(f"{what} must be possible: the cube's quaternion has length {length}")
        checked[17:21] /= length
        return checked

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws everything in a configuration: (height, width, 3) uint8; moves nothing."""
        self._imagined.qpos[:] = configuration[:21]
        return self._painter.render(self._imagined)

    @property
    def _bounds(self) -> tuple[list[float], list[float]]:
        ranges = self._model.jnt_range[:_NUM_JOINTS]
        least = [*(ranges[:, 0] - 0.1), *[-2.0] * 3, *[-1.1] * 4, -0.01]
        return least, [*(ranges[:, 1] + 0.1), *[2.0] * 3, *[1.1] * 4, 1.01]

    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        start = self._drawn(generator) if start is None else start
        if goal is None:
            goal = unreached_goal(
                lambda: self._drawn(generator),
                lambda drawn: self._distance_between(start, drawn),
                beyond=2 * self.success_distance,
            )
        return start, goal

    def _drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Draws an open hand above the floor, and a cube on it, as OGBench does."""
        simulator, mujoco = self._simulator, load_mujoco()
        mujoco.mj_resetData(self._model, self._data)
        simulator.np_random = generator
        simulator.initialize_arm()
        yaw = generator.uniform(0.0, 2 * math.pi)
        place = [*generator.uniform(CUBE_LOW, CUBE_HIGH), self._resting_height]
        turn = [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
        self._data.qpos[14:21] = *place, *turn
        self._data.ctrl[:6] = self._data.qpos[:6]
        mujoco.mj_step(self._model, self._data, nstep=600)  # the open gripper settles
        return np.concatenate([self._data.qpos[:_NUM_JOINTS], place, turn, [0.0]])

    # ------------------------------------------------------------------ the simulation

    @property
    def _model_and_data(self) -> tuple[Any, Any]:
        return self._model, self._data

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        mujoco = load_mujoco()
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = configuration[:21]
        self._data.ctrl[:6], self._data.ctrl[6] = configuration[:6], 255 * configuration[21]
        mujoco.mj_forward(self._model, self._data)

    def _act(self, action: np.ndarray) -> None:
        mujoco, simulator = load_mujoco(), self._simulator
        command = self._gripper_command + float(action[4])
        simulator.set_control(np.asarray(action, dtype=np.float64) / self.action_spec.high)
        if not self.has_ogbench_control:
            self._data.ctrl[6] = 255 * np.clip(command, 0.0, 1.0)
        mujoco.mj_step(self._model, self._data, nstep=simulator._n_steps)
        mujoco.mj_forward(self._model, self._data)

    @property
    def _gripper_command(self) -> float:
        """How far the gripper was told to close, 0 to 1."""
        return float(self._data.ctrl[6] / 255)

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        self._imagined.qpos[:] = configuration[:21]
        load_mujoco().mj_kinematics(self._model, self._imagined)
        hand = self._simulator._pinch_site_id
        rotation = self._imagined.site_xmat[hand].reshape(3, 3)
        yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        closedness = float(np.clip(configuration[6] / 0.8, 0.0, 1.0))
        return np.array([*self._imagined.site_xpos[hand], yaw, closedness])

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns how far the cube is from where it is in the goal, in metres."""
        return float(np.linalg.norm(configuration[14:17] - goal[14:17]))

    def _change(self, values: Values) -> None:
        is_plain = values["colour.floor"] == _FACTORS["colour.floor"].default
        floor = {} if is_plain else {"floor": values["colour.floor"]}
        self._painter.look(
            camera=moved_camera(self._orbit, values),
            brightness=values["light.brightness"][0],
            colours={"object_0": values["colour.cube"], **floor},
        )
        mass, mujoco = values["mass.cube"][0], load_mujoco()
        body = self._model.body("object_0").id
        self._model.body_mass[body] = mass
        self._model.body_inertia[body] = mass * CUBE_EDGE**2 / 6
        cube, ground = self._model.geom("object_0"), self._model.geom("floor")
        cube.friction[0] = ground.friction[0] = values["friction.cube"][0]
        mujoco.mj_setConst(self._model, self._data)
        self._resting_height = self._settled_height()

    def _settled_height(self) -> float:
        """Where the middle of the cube comes to rest: it sinks into the floor a little."""
        mujoco = load_mujoco()
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[14:] = [0.4, 0.0, HEIGHT, 1.0, 0.0, 0.0, 0.0]
        mujoco.mj_step(self._model, self._data, nstep=300)
        return float(self._data.qpos[16])

    def _show_target(self) -> None:
        """Tells the simulator what its expert asks for: the goal, forces at the fingers."""
        simulator, goal = self._simulator, self.goal_configuration
        self._data.mocap_pos[0], self._data.mocap_quat[0] = goal[14:17], goal[17:21]
        simulator._prev_qpos, simulator._prev_qvel = self._data.qpos, self._data.qvel
        load_mujoco().mj_rnePostConstraint(self._model, self._data)


def _draw_simple_shapes(model: Any) -> None:  # noqa: ANN401
    """Changes what is drawn of arm and gripper: the shapes with which they collide."""
    cylinder = load_mujoco().mjtGeom.mjGEOM_CYLINDER.value
    for index in range(model.ngeom):
        geom = model.geom(index)
        if not geom.name.startswith("ur5e/"):
            continue
        if geom.group[0] != 3:  # the fine meshes
            geom.group[:] = 5
            continue
        geom.group[:] = 2
        is_gripper = geom.name.startswith("ur5e/robotiq")
        geom.rgba[:] = PURPLE if is_gripper else GLASS
        if model.body(geom.bodyid[0]).name in ("ur5e/robotiq/base", "ur5e/robotiq/base_mount"):
            geom.type[:] = cylinder  # of the size of the mesh, which has 34 000 faces
            geom.size[1] = geom.size[2]


def _new_simulator(*, has_weight: bool) -> Any:  # noqa: ANN401
    """Returns OGBench's environment with a model and data of its own."""
    made = copy.copy(_compiled_simulator(has_weight))
    made._model = copy.copy(made._model)
    made._data = load_mujoco().MjData(made._model)
    made._ik = copy.copy(made._ik)
    return made


@functools.cache
def _compiled_simulator(has_weight: bool) -> Any:  # noqa: ANN401
    """Returns OGBench's environment, which takes seconds to compile: copy it.

    Raises:
        ImportError: if ogbench is not installed.
    """
    prepare_for("ogbench")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a window library, that there is no display
        from ogbench.manipspace.envs.cube_env import (  # pyright: ignore[reportMissingImports]
            CubeEnv,
        )

    made = CubeEnv(env_type="single", ob_type="pixels", mode="data_collection")
    made._mjcf_model = made.build_mjcf_model()
    for body in made._mjcf_model.find_all("body"):
        if body.full_identifier.startswith("ur5e/") and hasattr(body, "gravcomp"):
            body.gravcomp = 0.0 if has_weight else 1.0
    made.compile_model_and_data()
    return made
