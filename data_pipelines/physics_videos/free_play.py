"""Possible stories without a plot, to learn from: things fall, bounce, roll and are hidden."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_pipelines.physics_videos.engine import Block, Body, simulate
from data_pipelines.physics_videos.scenes import Scene, centred, draw_scene, floor_at

_ATTEMPTS = 200


class Story(NamedTuple):
    """What a video shows.

    Attributes:
        scene: what it looks like.
        positions: (time, things, 2), see `drawing.draw_frames`.
    """

    scene: Scene
    positions: np.ndarray


def free_play(rng: np.random.Generator, *, num_frames: int) -> Story:
    """Draws one or two things on a floor or above it, perhaps a wall, and up to two screens."""
    surface = rng.uniform(0.75, 0.95)
    blocks = [floor_at(surface)]
    if rng.random() < 0.4:
        x, half = rng.uniform(0.3, 0.7), rng.uniform(0.015, 0.03)
        blocks.append(Block(x - half, surface - rng.uniform(0.2, 0.5), x + half, surface))
    radii = tuple(rng.uniform(0.05, 0.1, size=rng.integers(1, 3)))
    screens = tuple(_screen(rng, surface) for _ in range(rng.integers(0, 3)))
    scene = draw_scene(rng, radii=radii, blocks=tuple(blocks), screens=screens)
    bodies: list[Body] = []
    for look in scene.looks:
        for _ in range(_ATTEMPTS):
            place, velocity = _start(rng, surface - look.radius)
            body = look.body(place, velocity)
            if not _touches(body, bodies, blocks):
                bodies.append(body)
                break
    looks = scene.looks[: len(bodies)]  # a crowded scene may have no room for the second thing
    scene = Scene(**{**vars(scene), "looks": looks})
    return Story(scene, simulate(bodies, blocks, num_frames=num_frames).positions)


def _screen(rng: np.random.Generator, surface: float) -> Block:
    width, height = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.4)
    stands = rng.random() < 0.7
    y = surface - height / 2 if stands else rng.uniform(0.3, 0.6)
    return centred(rng.uniform(0.15, 0.85), y, width, height)


def _start(
    rng: np.random.Generator, lowest: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns a place and a velocity: on the floor, towards the middle, or thrown in the air."""
    if rng.random() < 0.5:
        x = rng.uniform(-0.5, 1.5)
        speed = rng.uniform(0.3, 0.6) if rng.random() < 0.8 else 0.0
        return (x, lowest), (float(np.copysign(speed, 0.5 - x)), 0.0)
    place = (rng.uniform(0.1, 0.9), rng.uniform(0.1, lowest))
    return place, (rng.uniform(-0.2, 0.2), rng.uniform(-0.5, 0.5))


def _touches(body: Body, others: list[Body], blocks: list[Block]) -> bool:
    """Whether a thing would start inside another one, or closer to it than a hundredth."""
    x, y = body.position
    for other in others:
        reach = body.radius + other.radius + 0.01
        if max(abs(x - other.position[0]), abs(y - other.position[1])) < reach:
            return True
    return any(
        block.left - body.radius < x < block.right + body.radius
        and block.top - body.radius + 1e-9 < y < block.bottom + body.radius
        for block in blocks
    )
