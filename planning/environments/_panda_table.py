"""A Panda arm, a table and a cube, simulated by robosuite: where things are and how they move.

The scene is robosuite's Lift, and its operational-space controller (OSC_POSE, arXiv:2009.12293)
moves the hand. All places are in the base frame of the arm, as DROID has them: x forward, y to the
left, z up, in metres; the table top is at z = -0.112.

Three things differ from robosuite's own loop, whose actions are shares of 5 cm at 20 per second. A
movement is a pose difference in metres and radians that lasts a quarter of a second: the
controller's target glides there from the pose the hand has now. Its gains are higher (500 instead
of 150, and position and orientation coupled), since otherwise the hand would cover half of the way
in that time. Torques are renewed 100 times a second, not 500: three times as fast to simulate.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from planning.actions.poses import matrix_from_euler
from planning.environments._robot_tasks import prepare_for
from planning.mujoco_rendering import MujocoRenderer, Orbit, load_mujoco
from planning.rendered_labels import RenderedLabels

STEPS_PER_SECOND = 4.0
TABLE_HEIGHT = -0.112  # of its top
FINGER_TRAVEL = 0.04  # of each finger, from closed to open
HAND_DOWN = np.diag([1.0, -1.0, -1.0])  # rotation of a hand that points down, with yaw 0
HOME = (0.0, math.pi / 16, 0.0, -5 * math.pi / 6, 0.0, math.pi - 0.2, math.pi / 4)  # robosuite's
# The hand is told to be in here; at the lowest z the finger tips almost touch the table.
WORKSPACE_LOW, WORKSPACE_HIGH = np.array([0.34, -0.32, -0.097]), np.array([0.78, 0.32, 0.35])
CAMERA = Orbit((-0.1, 0.0, 0.98), 1.2, yaw_degrees=150.0, pitch_degrees=-32.0)  # world frame

_SUBSTEPS, _SUBSTEPS_PER_TORQUE = 125, 5  # of 2 ms
_GLIDE_SHARE = 0.3  # of the step's time, in which the controller's target moves
_STIFFNESS = 500.0
# Turns robosuite's frame of the hand about the hand's own axis, so that home has yaw 0.
_QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_HAND_SITE, _BASE_SITE = "gripper0_right_grip_site", "robot0_right_center"


class PandaTable:
    """The simulation. A configuration is joints, fingers, the cube, and what the gripper was told.

    Args:
        image_size: height and width of a picture in pixels.
        has_fine_meshes: draw the arm with all its details, which takes ten times as long on a
            processor, instead of the hulls with which it collides.

    Raises:
        ImportError: if robosuite is not installed.
    """

    def __init__(self, image_size: int, *, has_fine_meshes: bool) -> None:
        self._sim, self._controller = _make_simulation()
        sim = self._sim
        self.model, self.data = sim.model._model, sim.data._data
        self._hand = sim.model.site_name2id(_HAND_SITE)
        self._cube = sim.model.body_name2id("cube_main")
        self._cube_geoms = [sim.model.geom_name2id(name) for name in ("cube_g0", "cube_g0_vis")]
        self._table = sim.model.geom_name2id("table_collision")
        self._base = np.array(sim.data.get_site_xpos(_BASE_SITE))
        self.home = np.array(HOME)
        self._controller.update_origin(self._base, np.eye(3))
        self._controller.initial_joint = self.home.copy()
        self._has_fine_meshes = has_fine_meshes
        self._imagined = load_mujoco().MjData(self.model)
        self.resting_height = TABLE_HEIGHT
        drawn = copy.copy(self.model)
        if not has_fine_meshes:
            _draw_hulls(drawn, sim.model._geom_name2id)
        self._painter = MujocoRenderer(drawn, image_size, CAMERA, geom_groups=(1,), site_groups=())
        self._arm_materials = drawn.mat_rgba.copy()

    # ------------------------------------------------------------------ where things are

    @property
    def joint_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(7,) smallest and (7,) largest angles of the arm's joints, in radians."""
        return self.model.jnt_range[:7, 0].copy(), self.model.jnt_range[:7, 1].copy()

    @property
    def hand_position(self) -> np.ndarray:
        """(3,), between the finger tips."""
        return self._hand_in(self.data)[0]

    @property
    def hand_rotation(self) -> np.ndarray:
        """(3, 3), of the hand in the base frame."""
        return self._hand_in(self.data)[1]

    def hand_at(self, configuration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns place (3,) and rotation (3, 3) of the hand in a configuration; moves nothing."""
        self._imagine(configuration)
        load_mujoco().mj_kinematics(self.model, self._imagined)
        return self._hand_in(self._imagined)

    def _hand_in(self, data: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        rotation = np.array(data.site_xmat[self._hand]).reshape(3, 3) @ _QUARTER_TURN
        return np.array(data.site_xpos[self._hand]) - self._base, rotation

    def _imagine(self, configuration: np.ndarray) -> None:
        self._imagined.qpos[:] = self._positions(configuration)

    def _positions(self, configuration: np.ndarray) -> np.ndarray:
        """Returns the simulation's positions (16,) of a configuration (17,)."""
        positions = configuration[:16].copy()
        positions[9:12] += self._base
        positions[12:16] /= np.linalg.norm(positions[12:16])
        return positions

    @property
    def closedness(self) -> float:
        """How far the gripper is closed, measured: 0 open, 1 closed."""
        return closedness_of(self.data.qpos)

    @property
    def gripper_command(self) -> float:
        """How far the gripper was told to close: more than it is, where it holds something."""
        return float(1.0 - self.data.ctrl[7] / FINGER_TRAVEL)

    @property
    def cube_position(self) -> np.ndarray:
        """(3,), the middle of the cube."""
        return self.data.qpos[9:12] - self._base

    @property
    def cube_half_size(self) -> float:
        """Half the edge of the cube."""
        return float(self.model.geom_size[self._cube_geoms[0], 0])

    @property
    def cube_yaw(self) -> float:
        """The cube's turn about the vertical, in radians, as if it lay flat."""
        w, x, y, z = self.data.qpos[12:16]
        return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    @property
    def configuration(self) -> np.ndarray:
        """(17,): 7 joints, 2 fingers, the cube's place and quaternion (wxyz), the command."""
        cube = np.concatenate([self.cube_position, self.data.qpos[12:16]])
        return np.concatenate([self.data.qpos[:9], cube, [self.gripper_command]])

    def place(self, configuration: np.ndarray) -> None:
        """Puts everything at a configuration (17,), at rest; nothing is left of what was before."""
        self._sim.reset()
        self.data.qpos[:] = self._positions(configuration)
        self._command_gripper(float(configuration[16]))
        self._sim.step1()

    def joints_for(self, position: np.ndarray, yaw: float) -> np.ndarray:
        """Returns joint angles (7,) with the hand there, pointing down: inverse kinematics.

        The elbow is where the controller lets it rest, so that nothing moves afterwards. The
        simulation is left there.

        Args:
            position: (3,), of the hand in the base frame.
            yaw: turn of the hand about the vertical, in radians.

        Raises:
            ValueError: if the arm does not reach there.
        """
        cosine, sine = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        rotation = turn @ HAND_DOWN @ _QUARTER_TURN.T
        self._sim.reset()  # the fingers weigh something, too: where they were must not matter
        joints = self.home.copy()
        controller, (low, high) = self._controller, self.joint_limits
        for _ in range(200):
            self.data.qpos[:7] = joints
            controller.update(force=True)
            error = position + self._base - controller.ref_pos
            error = np.concatenate([error, _turn_between(controller.ref_ori_mat, rotation)])
            inverse_mass = np.linalg.inv(controller.mass_matrix)
            jacobian = controller.J_full
            back = inverse_mass @ jacobian.T  # weighted as the controller's null space is
            back = back @ np.linalg.inv(jacobian @ back + 1e-9 * np.eye(6))
            rest = (self.home - joints) - back @ (jacobian @ (self.home - joints))
            if np.abs(error).max() < 1e-7 and np.abs(rest).max() < 1e-6:
                return joints
            joints = np.clip(joints + np.clip(back @ error, -0.3, 0.3) + 0.7 * rest, low, high)
        raise ValueError(f"the arm does not reach {np.round(position, 3).tolist()}")

    # ------------------------------------------------------------------ how things move

    def move(self, action: np.ndarray) -> None:
        """Moves the hand by a pose difference for a quarter of a second.

        Args:
            action: (7,), metres, extrinsic x-y-z Euler angles in radians, both in the base frame,
                and the change of the gripper's command.
        """
        start, rotation = self.hand_position, self.hand_rotation
        end = np.clip(start + action[:3], WORKSPACE_LOW, WORKSPACE_HIGH)
        self._command_gripper(float(np.clip(self.gripper_command + action[6], 0.0, 1.0)))
        times = np.arange(0, _SUBSTEPS, _SUBSTEPS_PER_TORQUE) + _SUBSTEPS_PER_TORQUE
        shares = _smooth(np.minimum(1.0, times / (_GLIDE_SHARE * _SUBSTEPS)))
        turns = matrix_from_euler(torch.from_numpy(shares[:, None] * action[3:6])).numpy()
        for substep in range(_SUBSTEPS):
            if substep % _SUBSTEPS_PER_TORQUE == 0:
                index = substep // _SUBSTEPS_PER_TORQUE
                self._aim(start + shares[index] * (end - start), turns[index] @ rotation)
            self._sim.step2()
            self._sim.step1()

    def _aim(self, position: np.ndarray, rotation: np.ndarray) -> None:
        controller = self._controller
        controller.goal_pos, controller.goal_ori = position, rotation @ _QUARTER_TURN.T
        controller.new_update = True
        self.data.ctrl[:7] = controller.run_controller()

    def _command_gripper(self, closedness: float) -> None:
        opening = FINGER_TRAVEL * (1.0 - closedness)
        self.data.ctrl[7], self.data.ctrl[8] = opening, -opening

    # ------------------------------------------------------------------ how things are

    def shape_cube(self, *, edge: float, mass: float, friction: float) -> None:
        """Sets the cube's edge in metres, mass in kilogrammes, and sliding friction on the table.

        The finger tips grip as before: theirs is higher. Call `place` afterwards; a cube that lies
        on the table has `resting_height` then.
        """
        half = edge / 2
        for model in (self.model, self._painter.model):
            for geom in self._cube_geoms:
                model.geom_size[geom] = half
                model.geom_rbound[geom] = half * np.sqrt(3)
                model.geom_aabb[geom] = [0, 0, 0, half, half, half]
            model.body_mass[self._cube] = mass
            model.body_inertia[self._cube] = mass * edge**2 / 6
        self.model.geom_friction[[self._cube_geoms[0], self._table], 0] = friction
        load_mujoco().mj_setConst(self.model, self.data)
        self.resting_height = self._settled_height(TABLE_HEIGHT + half)

    def _settled_height(self, height: float) -> float:
        """Where the middle of the cube comes to rest: it sinks into the table a little."""
        cube = [0.6, 0.0, height, 1.0, 0.0, 0.0, 0.0]
        self.place(np.array([*self.home, FINGER_TRAVEL, -FINGER_TRAVEL, *cube, 0.0]))
        for _ in range(4):
            self.move(np.zeros(7))
        return float(self.cube_position[2])

    def look(
        self, *, camera: Orbit, brightness: float, colours: Mapping[str, tuple[float, ...]]
    ) -> None:
        """Sets the camera, the light, and the colours of arm, cube and table."""
        painted = {"cube_g0_vis": colours["cube"], "table_visual": colours["table"]}
        arm = np.array(colours["arm"])
        if self._has_fine_meshes:
            self._painter.model.mat_rgba[:, :3] = self._arm_materials[:, :3]
            self._painter.model.mat_rgba[self._is_arm_material(), :3] *= arm
        else:
            painted |= {name: tuple(shade * arm) for name, shade in _hull_shades().items()}
        self._painter.look(camera=camera, brightness=brightness, colours=painted)

    def draw(self, configuration: np.ndarray) -> np.ndarray:
        """(image_size, image_size, 3), uint8: what the camera sees there; moves nothing."""
        self._imagine(configuration)
        return self._painter.render(self._imagined)

    def labels_at(self, configuration: np.ndarray) -> RenderedLabels:
        """What is where in the picture of `draw`; moves nothing."""
        self._imagine(configuration)
        return self._painter.render_labels(self._imagined)

    def _is_arm_material(self) -> np.ndarray:
        mujoco = load_mujoco()
        names = [
            mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_MATERIAL, index)
            for index in range(self.model.nmat)
        ]
        return np.array([name.startswith("robot0") for name in names])


def closedness_of(positions: np.ndarray) -> float:
    """How far the gripper is closed, 0 to 1, by 7 joints and 2 fingers, whatever follows them."""
    opening = (positions[7] - positions[8]) / (2 * FINGER_TRAVEL)
    return float(np.clip(1.0 - opening, 0.0, 1.0))


def _draw_hulls(model: Any, geoms: Mapping[str, int]) -> None:  # noqa: ANN401
    """Changes which geoms are drawn: the arm's and its foot's hulls instead of their meshes."""
    for name, geom in geoms.items():
        if name in _hull_shades():
            model.geom_group[geom] = 1
        elif name.startswith(("robot0_g", "fixed_mount0")):
            model.geom_group[geom] = 5


def _hull_shades() -> dict[str, float]:
    """Names of the hulls of the arm, and how light they are: neighbours can be told apart."""
    links = {f"robot0_link{index}_collision": (1.0, 0.72)[index % 2] for index in range(8)}
    return links | {"fixed_mount0_pedestal_col": 0.25, "fixed_mount0_controller_box_col": 0.25}


def _smooth(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 without a jerk at either end."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def _turn_between(rotation: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(3,), about which axis to turn, times the sine of the angle."""
    return 0.5 * np.cross(rotation.T, wanted.T).sum(0)


def _make_simulation() -> tuple[Any, Any]:
    """Returns a new simulation (robosuite's MjSim) of the scene, and the controller of its arm."""
    model = copy.copy(_scene())
    from robosuite.controllers.parts.arm.osc import (  # pyright: ignore[reportMissingImports]
        OperationalSpaceController,
    )
    from robosuite.utils.binding_utils import MjSim  # pyright: ignore[reportMissingImports]

    sim, joints = MjSim(model), list(range(7))
    controller = OperationalSpaceController(
        sim,
        ref_name=_HAND_SITE,
        joint_indexes={"joints": joints, "qpos": joints, "qvel": joints},
        actuator_range=(model.actuator_ctrlrange[:7, 0], model.actuator_ctrlrange[:7, 1]),
        kp=_STIFFNESS,
        uncouple_pos_ori=False,
        part_name="right",
        naming_prefix="robot0_",
    )
    return sim, controller


@functools.cache
def _scene() -> Any:  # noqa: ANN401
    """Returns robosuite's scene as a mujoco.MjModel, which takes seconds to make: copy it.

    Raises:
        ImportError: if robosuite is not installed.
    """
    prepare_for("robosuite")
    before = np.random.get_state()  # robosuite draws the place of the cube from it
    logging.disable(logging.WARNING)  # it has warnings for its developers
    try:
        import robosuite  # pyright: ignore[reportMissingImports]

        scene = robosuite.make(
            "Lift",
            robots="Panda",
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
        )
    finally:
        logging.disable(logging.NOTSET)
        np.random.set_state(before)
    return scene.sim.model._model
