"""Metaworld reach: a Sawyer arm goes to where a picture shows it, within 5 cm.

Metaworld's reach-v3 (arXiv:1910.10897) with a goal that is seen instead of told: the mark of the
target is hidden. A step is several of the simulator's, 80 of which are a second. Starts differ from
Metaworld's in one thing: the hand begins anywhere in a box around the one place where it begins
there. Metaworld's cameras hang upside down; this one stands upright at about its corner2.

Install with: pip install 'jepa-planning[sim-robot]'. No display is needed.
"""

from __future__ import annotations

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
from planning.goal_simulation import Values
from planning.mujoco_rendering import MujocoRenderer, Orbit, load_mujoco

SIMULATOR_STEPS_PER_SECOND = 80.0
LARGEST_MOVE = 0.01  # metres in a step of the simulator, Metaworld's
START_LOW, START_HIGH = np.array([-0.1, 0.5, 0.1]), np.array([0.1, 0.7, 0.3])
GOAL_LOW, GOAL_HIGH = np.array([-0.1, 0.8, 0.05]), np.array([0.1, 0.9, 0.3])
PUCK_LOW, PUCK_HIGH = np.array([-0.1, 0.6]), np.array([0.1, 0.7])
LEAST_GAP = 0.15  # metres from the puck to the goal, seen from above
CAMERA = Orbit((0.0, 0.7, 0.12), 1.25, yaw_degrees=140.0, pitch_degrees=-35.0)

_HAND_ABOVE_TIPS = 0.049  # metres from between the finger tips to where the hand is pulled
_SETTLING_STEPS = 200
_TARGET_TURN = (1.0, 0.0, 1.0, 0.0)  # the quaternion to which Metaworld pulls the hand
_FACTORS = {
    "colour.puck": Factor((0.0,) * 3, (1.0,) * 3, (0.8, 0.0, 0.0)),
    "colour.floor": Factor((0.0,) * 3, (1.0,) * 3, (0.6, 0.6, 0.6)),  # the default is a pattern
    **VIEW_FACTORS,
}


@dataclass
class MetaworldReach(RobotTask):
    """The environment; a state is where the finger tips are, and how far they are closed.

    Args:
        image_size: height and width of a frame in pixels, 32 to 512.
        action_repeat: steps of the simulator in a step of the environment.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    action_repeat: int = 5
    max_steps: int = 100
    name: str = field(default="metaworld_reach", init=False)
    frames_per_second: float = field(init=False)
    state_names: tuple[str, ...] = field(default=("x", "y", "z", "gripper"), init=False)
    state_units: tuple[str, ...] = field(default=("metre",) * 3 + ("closedness",), init=False)
    configuration_names: tuple[str, ...] = field(
        default=(
            *(f"joint{index}" for index in range(1, 8)),
            *("finger1", "finger2", "puck_x", "puck_y", "puck_z"),
            *("puck_qw", "puck_qx", "puck_qy", "puck_qz", "target_x", "target_y", "target_z"),
        ),
        init=False,
    )
    success_distance: float = field(default=0.05, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        if not 1 <= self.action_repeat <= 20:
            raise ValueError(f"action_repeat must be in [1, 20], got {self.action_repeat}")
        self.frames_per_second = SIMULATOR_STEPS_PER_SECOND / self.action_repeat
        self._simulator = _new_simulator()
        self._model, self._data = self._simulator.model, self._simulator.data
        self._imagined = load_mujoco().MjData(self._model)
        self._painter = MujocoRenderer(self._model, self.image_size, CAMERA, site_groups=())
        self._apply(defaults_of(self))

    # ------------------------------------------------------------------ the contract

    @property
    def action_spec(self) -> ActionSpec:
        """(dx, dy, dz, effort): how the point moves that pulls the hand, and the fingers' effort.

        Metres in a step of the environment, in equal parts over the simulator's; the hand follows
        within about a quarter of a second. An effort of 1 closes, one of -1 opens.
        """
        high = (LARGEST_MOVE * self.action_repeat,) * 3 + (1.0,)
        units = ("metre",) * 3 + ("effort",)
        return ActionSpec(("dx", "dy", "dz", "effort"), units, tuple(-x for x in high), high)

    @property
    def meanings(self) -> Mapping[str, str]:
        """What states and actions are."""
        return {
            "frame": "world",
            "gripper": "state: closedness, 0 open to 1 closed; action: effort, -1 opens, 1 closes",
            "action_kind": "commanded change of the place that pulls the hand",
        }

    @property
    def configuration(self) -> np.ndarray:
        """(19,), float64: joints, fingers, the puck, and the point that pulls the hand."""
        return np.concatenate([self._data.qpos, self._data.mocap_pos[0]])

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, camera (degrees, and a share of the distance), and light."""
        return _FACTORS

    def make_expert(self) -> Acts:
        """Returns a policy that pulls the hand straight to where it is pulled in the goal."""

        def policy(*_: Any) -> np.ndarray:  # noqa: ANN401
            move = self.goal_configuration[16:] - self._data.mocap_pos[0]
            move /= max(1.0, float(np.abs(move).max()) / (LARGEST_MOVE * self.action_repeat))
            return np.append(move, -1.0).astype(np.float32)

        return policy

    # ------------------------------------------------------------------ places and pictures

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws everything in a configuration: (height, width, 3) uint8; moves nothing."""
        self._imagine(configuration)
        return self._painter.render(self._imagined)

    @property
    def _bounds(self) -> tuple[list[float], list[float]]:
        ranges = self._model.jnt_range[:9]
        simulator, slack = self._simulator, 0.001
        least = [*(ranges[:, 0] - 0.1), *[-2.0] * 3, *[-1.1] * 4, *(simulator.mocap_low - slack)]
        greatest = [*(ranges[:, 1] + 0.1), *[2.0] * 3, *[1.1] * 4]
        return least, [*greatest, *(simulator.mocap_high + slack)]

    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        puck = generator.uniform(PUCK_LOW, PUCK_HIGH)
        if start is None:
            start = self._settled(generator.uniform(START_LOW, START_HIGH), puck)
            if goal is not None:
                start[9:16] = goal[9:16]
        while goal is None:
            place = generator.uniform(GOAL_LOW, GOAL_HIGH)
            if np.linalg.norm(place[:2] - start[9:11]) >= LEAST_GAP:
                goal = self._settled(place, start[9:11])
                goal[9:16] = start[9:16]
        return start, goal

    def _settled(self, tips: np.ndarray, puck: np.ndarray) -> np.ndarray:
        """Returns the configuration (19,) of open finger tips there, after they came to rest."""
        simulator = self._simulator
        load_mujoco().mj_resetData(self._model, self._data)
        self._data.qpos[:] = simulator.init_qpos
        self._data.qpos[9:11] = puck
        pull = tips + np.array([0.0, 0.0, _HAND_ABOVE_TIPS])
        self._pull(np.clip(pull, simulator.mocap_low, simulator.mocap_high))
        for effort in (-1.0, 0.0):  # opened, and left so
            simulator.do_simulation([effort, -effort], simulator.frame_skip * _SETTLING_STEPS)
        return self.configuration

    # ------------------------------------------------------------------ the simulation

    @property
    def _model_and_data(self) -> tuple[Any, Any]:
        return self._model, self._data

    def _pull(self, place: np.ndarray) -> None:
        self._data.mocap_pos[0], self._data.mocap_quat[0] = place, _TARGET_TURN

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        mujoco = load_mujoco()
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = configuration[:16]
        self._pull(configuration[16:])
        mujoco.mj_forward(self._model, self._data)

    def _act(self, action: np.ndarray) -> None:
        simulator, effort = self._simulator, float(action[3])
        move = np.asarray(action[:3], dtype=np.float64) / (LARGEST_MOVE * self.action_repeat)
        for _ in range(self.action_repeat):
            simulator.set_xyz_action(move)
            simulator.do_simulation([effort, -effort], simulator.frame_skip)
        load_mujoco().mj_forward(self._model, self._data)

    def _imagine(self, configuration: np.ndarray) -> None:
        self._imagined.qpos[:] = configuration[:16]
        self._imagined.mocap_pos[0] = configuration[16:]

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        fingers = (configuration[7] - configuration[8]) / 0.08  # each moves by up to 4 cm
        return np.array([*self._tips(configuration), float(np.clip(fingers, 0.0, 1.0))])

    def _tips(self, configuration: np.ndarray) -> np.ndarray:
        """Returns the place (3,) between the finger tips, as Metaworld's test of success has it."""
        self._imagine(configuration)
        load_mujoco().mj_kinematics(self._model, self._imagined)
        sites = (self._imagined.site(f"{side}EndEffector").xpos for side in ("right", "left"))
        return np.mean(list(sites), axis=0)

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns how far the finger tips are from where they are in the goal, in metres."""
        return float(np.linalg.norm(self._tips(configuration) - self._tips(goal)))

    def _change(self, values: Values) -> None:
        is_plain = values["colour.floor"] == _FACTORS["colour.floor"].default
        floor = {} if is_plain else {"floor": values["colour.floor"]}
        self._painter.look(
            camera=moved_camera(CAMERA, values),
            brightness=values["light.brightness"][0],
            colours={"objGeom": values["colour.puck"], **floor},
        )


def _new_simulator() -> Any:  # noqa: ANN401
    prepare_for("metaworld")
    from metaworld.envs import SawyerReachEnvV3  # pyright: ignore[reportMissingImports]

    return SawyerReachEnvV3()
