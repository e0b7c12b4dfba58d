"""Goal images: from a file, or drawn by the simulator from a state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.images import read_image
from planning.capabilities import SetsGoals
from planning.types import Environment, Goal, TimeStep


def read_goal_image(path: str | Path, *, image_size: int, resizes: bool = False) -> np.ndarray:
    """Reads a goal image.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM file.
        image_size: height and width of the frames that the world model sees.
        resizes: scale an image of another size; its shorter side fits, what stands over is cut off
            evenly. A scaled picture is not what the camera would have seen: prefer its own.

    Returns:
        (image_size, image_size, 3), uint8, RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        DecodeError: if it is not an image.
        ValueError: if it has another size, and `resizes` is False.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    if (height, width) == (image_size, image_size):
        return image
    if not resizes:
        raise ValueError(
            f"goal image {path} is {width} x {height} pixels, the world model sees {image_size} x "
            f"{image_size}; take it with the same camera, or let --resize-goal scale and crop it"
        )
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(image).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((image_size, image_size), Image.Resampling.LANCZOS))


class ImageGoal:
    """An environment whose goal is a picture: nobody knows the state behind it.

    The simulator wants a goal state of its own, which means nothing here: reaching that one by
    chance ends nothing, and success is for others to judge. What drives hardware is never reset on
    the way: where it says that the episode is over, it is over.

    Args:
        environment: does everything else.
        frame: (height, width, 3) uint8.
    """

    def __init__(self, environment: Environment, frame: np.ndarray) -> None:
        self.environment, self.frame = environment, frame
        self.name, self.image_size = environment.name, environment.image_size
        self.frames_per_second = environment.frames_per_second
        self.state_names, self.state_units = environment.state_names, environment.state_units
        self.success_distance, self.max_steps = environment.success_distance, environment.max_steps
        self.action_spec = environment.action_spec
        self._generator = np.random.default_rng(0)
        self._num_steps = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Returns what else the environment has: whether it drives hardware, or is guarded."""
        if name == "environment":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.environment, name)

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode; `goal` must be None."""
        if goal is not None:
            raise ValueError("the goal is a picture here: there is no goal state to give")
        self._generator, self._num_steps = generator, 0
        return self._awake(self.environment.reset(generator, start=start, goal=None))

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once."""
        if self._num_steps >= self.max_steps:
            raise RuntimeError("the episode is over; call reset before the next step")
        self._num_steps += 1
        return self._awake(self.environment.step(action))

    @property
    def goal(self) -> Goal:
        """The picture; its state is NaN."""
        return Goal(self.frame, np.full(len(self.state_names), np.nan, np.float32))

    def distance_to_goal(self) -> float:
        """NaN: not known."""
        return float("nan")

    def _awake(self, time_step: TimeStep) -> TimeStep:
        """Goes on from here where the simulator thinks that the episode is over."""
        if getattr(self.environment, "drives_hardware", False):
            is_last = time_step.is_last or self._num_steps >= self.max_steps
            return time_step._replace(is_success=False, is_last=is_last)
        while time_step.is_last and self._num_steps < self.max_steps:
            if isinstance(self.environment, SetsGoals):  # with its speeds
                time_step = self.environment.new_goal(self._generator)
                continue
            state = np.asarray(time_step.state, dtype=np.float64)
            shown = self.environment.reset(self._generator, start=state, goal=None)
            time_step = time_step._replace(is_success=False, is_last=shown.is_last)
        is_last = self._num_steps >= self.max_steps
        return time_step._replace(is_success=False, is_last=is_last)
