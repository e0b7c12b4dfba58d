"""What the robots' tasks add to `GoalSimulation`: goals that belong to their starts.

An arm is at another place in the goal, but the cube on the table is the same, and lies where the
task says: start and goal are drawn together. Everything else that is common is physics in MuJoCo.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planning.capabilities import Factor
from planning.goal_simulation import GoalSimulation, Values, checked_values
from planning.mujoco_rendering import Orbit, load_mujoco, load_physics, save_physics
from planning.types import TimeStep

VIEW_FACTORS = {
    "camera.yaw": Factor((-30.0,), (30.0,), (0.0,)),  # degrees
    "camera.pitch": Factor((-15.0,), (15.0,), (0.0,)),
    "camera.distance": Factor((0.8,), (1.25,), (1.0,)),  # shares of the default's
    "light.brightness": Factor((0.3,), (1.7,), (1.0,)),
}


class RobotTask(GoalSimulation):
    """A task of a robot in MuJoCo, but for the robot."""

    image_size: int
    configuration_names: tuple[str, ...]
    _applied: Values | None = None

    # ------------------------------------------------------------------ what a robot says

    @property
    @abstractmethod
    def _model_and_data(self) -> tuple[Any, Any]:
        """The mujoco.MjModel and MjData of the simulation."""

    @property
    @abstractmethod
    def _bounds(self) -> tuple[Sequence[float], Sequence[float]]:
        """Least and greatest values of a configuration."""

    @abstractmethod
    def _sample_task(
        self, generator: np.random.Generator, start: np.ndarray | None, goal: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (start, goal), with what is None drawn to suit the other."""

    @abstractmethod
    def _change(self, values: Values) -> None:
        """Makes the simulation look and behave as the factors say."""

    # ------------------------------------------------------------------ the contract

    def reset(
        self,
        generator: np.random.Generator,
        *,
        start: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> TimeStep:
        """Starts an episode at rest; configurations that are not given are drawn to suit.

        Raises:
            ValueError: if a configuration cannot be.
        """
        self._apply(checked_values(self.factors, self._wanted or {}))
        given = [
            None if configuration is None else self.checked_configuration(configuration, what)
            for configuration, what in ((start, "start"), (goal, "goal"))
        ]
        start, goal = self._sample_task(generator, *given)
        return super().reset(generator, start=start, goal=goal)

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Draws start and goal, and the group "any"."""
        return *self._sample_task(generator, None, None), "any"

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws where an episode may start."""
        return self._sample_task(generator, None, None)[0]

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns it as float64, a copy.

        Raises:
            ValueError: if it has not one finite value for each of `configuration_names`, or one is
                out of bounds; the first is named.
        """
        checked, names = np.array(configuration, dtype=np.float64), self.configuration_names
        if checked.shape != (len(names),) or not np.isfinite(checked).all():
            raise ValueError(
                f"{what} must be {len(names)} finite numbers ({', '.join(names)}), "
                f"got {checked.tolist()}"
            )
        for name, value, low, high in zip(names, checked.tolist(), *self._bounds, strict=True):
            if not low <= value <= high:
                raise ValueError(
                    f"{what} must be possible: {name} is {value:.4g}, outside of "
                    f"[{low:.4g}, {high:.4g}]"
                )
        return checked

    # ------------------------------------------------------------------ private

    def _drawn_goal(self, here: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self._sample_task(generator, here, None)[1]

    def _apply(self, values: Values) -> None:
        if values != self._applied:  # settling a cube of another size takes its time
            self._change(values)
            self._applied = dict(values)

    def _state_now(self) -> np.ndarray:
        return self._state_at(self.configuration)

    def _saved(self) -> np.ndarray:
        return save_physics(*self._model_and_data)

    def _load(self, saved: np.ndarray) -> None:
        load_physics(*self._model_and_data, saved)


def defaults_of(task: GoalSimulation) -> Mapping[str, tuple[float, ...]]:
    """Returns the values of all factors when nobody asks."""
    return checked_values(task.factors, {})


def moved_camera(camera: Orbit, values: Values) -> Orbit:
    """Returns the camera where the factors of the view have it."""
    return camera.moved(
        yaw=values["camera.yaw"][0],
        pitch=values["camera.pitch"][0],
        distance=values["camera.distance"][0],
    )


def prepare_for(package: str) -> None:
    """Gets ready to import a simulator: chooses how to draw before it asks.

    Raises:
        ImportError: if it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{package} is not installed: pip install 'jepa-planning[sim-robot]' brings the "
            "simulators of robots"
        )
    load_mujoco()
