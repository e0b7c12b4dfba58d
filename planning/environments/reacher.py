"""Reacher: an arm of two links in the plane shall take a pose that a picture shows.

Wraps reacher of dm_control's suite, with goals as in stable-worldmodel: the goal is a pose of the
whole arm, reached when both joints are within 0.05 rad of it. The suite's own task, a ball that the
finger touches, is another one, so its ball is not drawn. Angles are radians; the shoulder turns
without end, so its angle is taken in [-pi, pi) and compared around the circle.

A state is (shoulder, wrist, shoulder_velocity, wrist_velocity), a configuration (shoulder, wrist),
at rest. An action is a torque of each joint, held for `action_repeat` steps of 0.02 s; the suite
acts at each.

Install with: pip install 'jepa-planning[sim]'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Acts, Factor
from planning.goal_simulation import GoalSimulation, Values
from planning.mujoco_rendering import (
    MujocoRenderer,
    Orbit,
    load_mujoco,
    load_physics,
    save_physics,
)

if TYPE_CHECKING:
    from dm_control.suite.reacher import Physics  # pyright: ignore[reportMissingImports]

    from planning.types import Environment, TimeStep

PHYSICS_STEP_SECONDS = 0.02
WRIST_LIMIT_RADIANS = math.radians(160)
WRIST_GIVES_RADIANS = math.radians(20)
CAMERA = Orbit((0.0, 0.0, 0.0), distance=0.75)

_COLOUR = (0.0,) * 3, (1.0,) * 3
FACTORS = {
    "colour.agent": Factor(*_COLOUR, (0.7, 0.5, 0.3)),
    "colour.background": Factor(*_COLOUR, (0.15, 0.25, 0.35)),
    "camera.yaw": Factor((-20.0,), (20.0,), (0.0,)),
    "camera.pitch": Factor((0.0,), (25.0,), (0.0,)),
    "light.brightness": Factor((0.4,), (1.6,), (1.0,)),
    "size.arm": Factor((0.006,), (0.02,), (0.01,)),
}
PARTS = {"colour.agent": ("arm", "hand", "finger"), "colour.background": ("ground",)}


@dataclass
class Reacher(GoalSimulation):
    """The environment.

    Args:
        image_size: height and width of a frame in pixels.
        action_repeat: steps of the simulator, 0.02 s each, for which an action is held.
        max_steps: steps until an episode ends without success.
    """

    image_size: int = 64
    action_repeat: int = 2
    max_steps: int = 100
    name: str = field(default="reacher", init=False)
    frames_per_second: float = field(init=False)
    state_names: tuple[str, ...] = field(
        default=("shoulder", "wrist", "shoulder_velocity", "wrist_velocity"), init=False
    )
    state_units: tuple[str, ...] = field(
        default=("radian",) * 2 + ("radian/second",) * 2, init=False
    )
    configuration_names: tuple[str, ...] = field(default=("shoulder", "wrist"), init=False)
    success_distance: float = field(default=0.05, init=False)

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [32, 512], got {self.image_size}")
        if not 1 <= self.action_repeat <= 100:
            raise ValueError(f"action_repeat must be in [1, 100], got {self.action_repeat}")
        self.frames_per_second = 1 / (PHYSICS_STEP_SECONDS * self.action_repeat)
        self._physics = _made_physics()
        model = self._physics.model.ptr
        self._painter = MujocoRenderer(model, self.image_size, CAMERA, hidden=("target",))
        self._painted = load_mujoco().MjData(model)
        self._apply({name: factor.default for name, factor in FACTORS.items()})

    @property
    def action_spec(self) -> ActionSpec:
        """The torque of each joint, as a share of the largest."""
        return ActionSpec(("shoulder", "wrist"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0))

    @property
    def configuration(self) -> np.ndarray:
        """(shoulder, wrist) in radians, the shoulder in [-pi, pi)."""
        return _wrapped(self._physics.data.qpos)

    # ------------------------------------------------------------------ what can vary, who knows

    @property
    def factors(self) -> Mapping[str, Factor]:
        """Colours, camera (degrees), light, and how thick the arm is drawn (metres)."""
        return FACTORS

    def make_expert(self) -> Acts:
        """Returns a controller that knows the angles and velocities of the joints."""
        return _steered

    # ------------------------------------------------------------------ poses and pictures

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a pose (2,), uniform over all angles, as the suite does."""
        shoulder = generator.uniform(-math.pi, math.pi)
        return np.array([shoulder, generator.uniform(-WRIST_LIMIT_RADIANS, WRIST_LIMIT_RADIANS)])

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns a pose (2,) with the shoulder in [-pi, pi).

        Raises:
            ValueError: if it is not two finite angles, or the wrist is further beyond its limits
                than the arm's own strength brings it: they are soft.
        """
        pose = np.array(configuration, dtype=np.float64)
        is_sound = pose.shape == (2,) and bool(np.isfinite(pose).all())
        if not is_sound or abs(pose[1]) > WRIST_LIMIT_RADIANS + WRIST_GIVES_RADIANS:
            raise ValueError(
                f"{what} must be (shoulder, wrist) in radians, the wrist within "
                f"{WRIST_LIMIT_RADIANS:.2f} of 0, got {pose.tolist()}"
            )
        return _wrapped(pose)

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws the arm in a pose, from above: (height, width, 3) uint8."""
        self._painted.qpos[:] = configuration
        return self._painter.render(self._painted)

    def _apply(self, values: Values) -> None:
        self._painter.look(
            camera=CAMERA.moved(yaw=values["camera.yaw"][0], pitch=values["camera.pitch"][0]),
            brightness=values["light.brightness"][0],
            colours={
                part: values[factor]
                for factor, parts in PARTS.items()
                for part in parts
                if values[factor] != FACTORS[factor].default  # keeps the pattern of the floor
            },
        )
        for part in PARTS["colour.agent"]:
            self._painter.model.geom(part).size[0] = values["size.arm"][0]

    # ------------------------------------------------------------------ the simulation

    def _act(self, action: np.ndarray) -> None:
        self._physics.set_control(action.astype(np.float64))
        self._physics.step(self.action_repeat)

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        with self._physics.reset_context():
            self._physics.data.qpos[:] = configuration

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        return np.concatenate([configuration, np.zeros(2)])

    def _state_now(self) -> np.ndarray:
        return np.concatenate([self.configuration, self._physics.data.qvel])

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns the larger of the two differences of angles, in radians."""
        shoulder, wrist = (configuration - goal).tolist()
        return max(abs(math.remainder(shoulder, 2 * math.pi)), abs(wrist))

    def _saved(self) -> np.ndarray:
        return save_physics(self._physics.model.ptr, self._physics.data.ptr)

    def _load(self, saved: np.ndarray) -> None:
        load_physics(self._physics.model.ptr, self._physics.data.ptr, saved)


def _steered(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    """Turns each joint towards its angle at the goal, less the more quickly it turns already."""
    state = time_step.state.astype(np.float64)
    error = environment.goal.state[:2].astype(np.float64) - state[:2]
    error[0] = math.remainder(error[0], 2 * math.pi)
    torque = np.array([4.0, 2.0]) * error - np.array([0.3, 0.1]) * state[2:]
    return torque.clip(-1, 1).astype(np.float32)


def _wrapped(pose: np.ndarray) -> np.ndarray:
    """Returns a copy with the shoulder in [-pi, pi)."""
    return np.array([(pose[0] + math.pi) % (2 * math.pi) - math.pi, pose[1]])


def _made_physics() -> Physics:
    load_mujoco()
    try:
        from dm_control.suite import reacher  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError(
            f"reacher needs the simulator extra: pip install 'jepa-planning[sim]' ({error})"
        ) from error
    return reacher.Physics.from_xml_string(*reacher.get_model_and_assets())
