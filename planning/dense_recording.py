"""Episodes of a simulator as clips with exact masks, depths and point tracks.

Points are fixed to the bodies they were seen on: where they are later follows from where the bodies
are, and whether they are seen from the depths of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_pipelines.dense_labels import DenseClip, write_dense_clip
from planning.capabilities import LabelsPictures
from planning.control.mpc import Policy
from planning.recording import configuration_of, refuse_reserved_seed
from planning.rendered_labels import RenderedLabels
from planning.types import Environment

MAX_STARTS = 100  # drawn in a row that are over at once
NEAR_ENOUGH = 0.005  # of its depth: so far from a point may the surface be that is seen there
OBJECT_SHARE = 0.5  # of the points are on bodies, as long as any is to be seen; the rest anywhere


def record_dense_labels(
    environment: Environment,
    make_policy: Callable[[], Policy],
    out: str | Path,
    *,
    num_clips: int,
    num_steps: int,
    seed: int,
    num_points: int = 32,
) -> list[Path]:
    """Records episodes from random starts, with the labels of every picture.

    Args:
        environment: one that is drawn with MuJoCo (`planning.capabilities.LabelsPictures`).
        make_policy: makes a policy for each episode.
        out: folder of the clips, see `data_pipelines.dense_labels`.
        num_clips: how many.
        num_steps: actions of each, unless it ends early; there is one frame more.
        seed: of starts, policies and points; the same seed gives the same clips.
        num_points: that are followed in each clip.

    Returns:
        The files.

    Raises:
        ValueError: if a number is too small, or the environment knows no labels.
    """
    if min(num_clips, num_steps, num_points) < 1:
        raise ValueError(
            "num_clips, num_steps and num_points must be at least 1, got "
            f"{num_clips}, {num_steps} and {num_points}"
        )
    refuse_reserved_seed(seed)
    if not isinstance(environment, LabelsPictures):
        raise ValueError(
            f"{environment.name} does not know what is where in its pictures; those that are drawn "
            "with MuJoCo do, such as point_maze and panda_push"
        )
    files = []
    for index in range(num_clips):
        generator = np.random.default_rng((seed, index))
        clip = label_episode(
            environment,
            make_policy(),
            generator,
            num_steps=num_steps,
            num_points=num_points,
            key=f"{environment.name}-{seed}-{index:05d}",
        )
        files.append(write_dense_clip(clip, out))
    return files


def label_episode(
    environment: Environment,
    policy: Policy,
    generator: np.random.Generator,
    *,
    num_steps: int,
    num_points: int,
    key: str,
) -> DenseClip:
    """Records one episode; arguments as in `record_dense_labels`.

    Object ids and classes are the numbers of bodies; the world itself is the background.
    """
    assert isinstance(environment, LabelsPictures)
    frames, places = _watched(environment, policy, generator, num_steps)
    labels = [environment.labels_at(place) for place in places]
    tracks, is_visible = follow_points(labels, generator, num_points)
    names = environment.body_names
    bodies = np.stack([label.bodies for label in labels])
    depth = np.stack([label.depth for label in labels])
    return DenseClip(
        key=key,
        frames=frames,
        object_ids=np.maximum(bodies, 0).astype(np.uint16),
        object_classes=tuple(range(len(names))),
        class_names=names,
        depth=np.where(bodies < 0, np.nan, depth).astype(np.float32),
        tracks=tracks.astype(np.float32),
        is_visible=is_visible,
        frames_per_second=environment.frames_per_second,
    )


def _watched(
    environment: Environment, policy: Policy, generator: np.random.Generator, num_steps: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Runs an episode; returns frames (time, height, width, 3) and where everything was in each.

    Raises:
        ValueError: if no episode begins that is not over at once.
    """
    for _ in range(MAX_STARTS):
        step = environment.reset(generator, start=None, goal=None)
        if not step.is_last:
            break
    else:
        raise ValueError(f"{environment.name}: {MAX_STARTS} episodes were over at their first step")
    frames, places = [step.frame], [configuration_of(environment, step)]
    while len(frames) <= num_steps and not step.is_last:
        action = environment.action_spec.validate(policy(environment, step, generator))
        step = environment.step(action)
        frames.append(step.frame)
        places.append(configuration_of(environment, step))
    return np.stack(frames), places


def follow_points(
    labels: list[RenderedLabels], generator: np.random.Generator, num_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws points on what is seen, and says where they are in every frame.

    Args:
        labels: of every frame.
        generator: draws frames (all but the last) and pixels, whose middles the points are.
        num_points: how many.

    Returns:
        Tracks (points, time, 2), x and y in pixels, and visibility (points, time).

    Raises:
        ValueError: if a frame shows nothing at all.
    """
    tracks, seen = [], []
    for _ in range(num_points):
        start = labels[int(generator.integers(max(1, len(labels) - 1)))]
        row, column = _pixel(start.bodies, generator)
        pixel, depth = np.array([column + 0.5, row + 0.5]), start.depth[row, column]
        body = int(start.bodies[row, column])
        offset = start.camera.unproject(pixel, depth) - start.body_positions[body]
        own = offset @ start.body_rotations[body]  # in the axes of the body
        places = [_place(label, body, own) for label in labels]
        tracks.append(np.stack([place for place, _ in places]))
        seen.append([is_seen for _, is_seen in places])
    return np.stack(tracks), np.array(seen)


def _pixel(bodies: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
    """Draws row and column of a pixel that shows something, half of the time of a moving thing."""
    things, anything = np.argwhere(bodies > 0), np.argwhere(bodies >= 0)
    if not len(anything):
        raise ValueError("the picture shows nothing; no point can be drawn")
    pool = things if len(things) and generator.random() < OBJECT_SHARE else anything
    row, column = pool[int(generator.integers(len(pool)))].tolist()
    return row, column


def _place(label: RenderedLabels, body: int, own: np.ndarray) -> tuple[np.ndarray, bool]:
    """Returns where a point of a body is in a picture (2,), and whether it is seen there."""
    point = label.body_rotations[body] @ own + label.body_positions[body]
    place, depth = label.camera.project(point)
    size = label.camera.image_size
    if depth <= 0 or not ((place >= 0) & (place < size)).all():
        return place, False
    column, row = np.floor(place).astype(int).tolist()
    if label.bodies[row, column] != body:
        return place, False
    around = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    surface = label.depth[around][label.bodies[around] == body]
    return place, bool(np.abs(surface - depth).min() <= NEAR_ENOUGH * depth)
