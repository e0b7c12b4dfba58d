"""Moving shapes: small real videos and trajectories, for tests and tiny configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.trajectories import Episode, TrajectorySpecification
from data_pipelines.video_writing import write_mp4

# Image coordinates: x to the right, y down.
DIRECTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "down": (0.0, 1.0), "up": (0.0, -1.0)}

MOVING_SHAPE_SPECIFICATION = TrajectorySpecification(
    state_names=("x", "y"),
    state_units=("frame widths", "frame heights"),
    action_names=("velocity_x", "velocity_y"),
    action_units=("frame widths per step", "frame heights per step"),
    action_low=(-0.1, -0.1),
    action_high=(0.1, 0.1),
    frames_per_second=10.0,
)


def write_moving_shapes(
    folder: str | Path,
    *,
    num_videos: int = 32,
    num_frames: int = 32,
    size: int = 64,
    frames_per_second: float = 10.0,
    seed: int = 0,
) -> list[Path]:
    """Writes videos of one coloured shape that crosses a textured background.

    Args:
        folder: gets one sub-folder per direction of motion, which is the video's label.
        num_videos: directions take turns, so classes are balanced.
        num_frames: of each video.
        size: height and width, even.
        frames_per_second: of each video.
        seed: same seed, same videos.

    Returns:
        The paths, in the order written.
    """
    paths = []
    for index in range(num_videos):
        rng = np.random.default_rng((seed, index))
        direction = list(DIRECTIONS)[index % len(DIRECTIONS)]
        frames = moving_shape(rng, direction, num_frames=num_frames, size=size)
        path = Path(folder) / direction / f"{index:05d}.mp4"
        paths.append(write_mp4(path, frames, frames_per_second=frames_per_second))
    return paths


def moving_shape(
    rng: np.random.Generator, direction: str, *, num_frames: int, size: int
) -> np.ndarray:
    """Returns frames of a shape that moves steadily one way: (time, size, size, 3), uint8.

    The shape leaves at one side and comes back at the other.
    """
    positions = rng.random(2) + np.outer(
        np.arange(num_frames), np.array(DIRECTIONS[direction]) * rng.uniform(0.02, 0.05)
    )  # (time, 2)
    return draw_shape(rng, positions % 1.0, size=size)


def moving_shape_episodes(
    *, num_episodes: int = 16, num_frames: int = 32, size: int = 64, seed: int = 0
) -> Iterator[Episode]:
    """Yields trajectories of a shape that obeys its actions.

    state[t + 1] = clip(state[t] + action[t], 0.2, 0.8); the specification is
    `MOVING_SHAPE_SPECIFICATION`.
    """
    for index in range(num_episodes):
        rng = np.random.default_rng((seed, index))
        actions = rng.uniform(-0.1, 0.1, (num_frames - 1, 2)).astype(np.float32)
        states = np.empty((num_frames, 2), dtype=np.float32)
        states[0] = rng.uniform(0.2, 0.8, 2)
        for step, action in enumerate(actions):
            states[step + 1] = np.clip(states[step] + action, 0.2, 0.8)
        yield Episode(
            frames=draw_shape(rng, states, size=size),
            states=states,
            actions=actions,
            key=f"episode-{index:05d}",
            frames_per_second=MOVING_SHAPE_SPECIFICATION.frames_per_second,
            group=f"seed-{seed}-episode-{index:05d}",  # drawn alone: it has nothing of the others
        )


def draw_shape(rng: np.random.Generator, positions: np.ndarray, *, size: int) -> np.ndarray:
    """Draws a disc or a square of a random colour on a random smooth background.

    Args:
        rng: chooses background, colour, shape and radius.
        positions: the centre's x and y, in parts of the frame: (time, 2).
        size: height and width in pixels.

    Returns:
        (time, size, size, 3), uint8.
    """
    background = _smooth_background(rng, size)  # (size, size, 3)
    colour = rng.integers(0, 256, 3)
    radius, is_disc = rng.uniform(0.1, 0.2), rng.random() < 0.5
    grid = (np.arange(size) + 0.5) / size
    across = _wrapped(grid[None, None, :] - positions[:, 0, None, None])
    along = _wrapped(grid[None, :, None] - positions[:, 1, None, None])
    distance = np.hypot(across, along) if is_disc else np.maximum(abs(across), abs(along))
    is_shape = distance < radius  # (time, size, size)
    return np.where(is_shape[..., None], colour, background).astype(np.uint8)


def _wrapped(difference: np.ndarray) -> np.ndarray:
    """Returns the shortest way round a frame whose sides are joined."""
    return (difference + 0.5) % 1.0 - 0.5


def _smooth_background(rng: np.random.Generator, size: int) -> np.ndarray:
    corners = rng.integers(40, 216, (2, 2, 3)).astype(np.float64)
    weight = np.linspace(0, 1, size)[:, None]
    rows = corners[0] * (1 - weight[..., None]) + corners[1] * weight[..., None]  # (size, 2, 3)
    left, right = rows[:, None, 0], rows[:, None, 1]
    return left * (1 - weight[None]) + right * weight[None]
