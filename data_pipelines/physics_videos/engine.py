"""The physics engine: discs and squares that slide, fall and bounce, without loss of energy.

The only file that names pymunk. Nothing turns and nothing rubs, so every motion can be run
backwards, and that is how a past is made that leads to a wanted moment.

Units: frame widths and seconds; x goes to the right, y downwards, as in images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pymunk

Shape = Literal["disc", "square"]

FRAMES_PER_SECOND = 10.0
GRAVITY = 1.0  # frame widths per second squared: the height of the frame takes 1.4 seconds
_SUBSTEPS = 20
_SCALE = 100.0  # pymunk's tolerances are made for worlds of about this size


@dataclass(frozen=True)
class Body:
    """A thing that moves.

    Attributes:
        position: (x, y) of its centre.
        velocity: (x, y) in frame widths per second.
        radius: of a disc, or half the side of a square.
        shape: "disc" or "square"; it never turns.
    """

    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.08
    shape: Shape = "disc"


class Block(NamedTuple):
    """A rectangle that does not move: a floor, a wall or a shelf."""

    left: float
    top: float
    right: float
    bottom: float


class Motion(NamedTuple):
    """Where things are at each frame.

    Attributes:
        positions: (time, bodies, 2), x and y of the centres.
        velocities: (time, bodies, 2), frame widths per second.
    """

    positions: np.ndarray
    velocities: np.ndarray


def simulate(
    bodies: Sequence[Body],
    blocks: Sequence[Block] = (),
    *,
    num_frames: int,
    gravity: float = GRAVITY,
) -> Motion:
    """Runs the engine.

    Args:
        bodies: at the first frame.
        blocks: what they bounce off, perfectly.
        num_frames: at `FRAMES_PER_SECOND`, the first one included.
        gravity: downwards, frame widths per second squared.

    Raises:
        ModuleNotFoundError: if pymunk is not installed.
        ValueError: if there is no frame to simulate.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    space = _space(gravity, blocks)
    moving = [_add_body(space, body) for body in bodies]
    positions, velocities = [], []
    for frame in range(num_frames):
        for _ in range(_SUBSTEPS if frame else 0):
            space.step(1 / (FRAMES_PER_SECOND * _SUBSTEPS))
        positions.append([tuple(body.position) for body in moving])
        velocities.append([tuple(body.velocity) for body in moving])
    shape = (num_frames, len(moving), 2)
    return Motion(
        np.array(positions, dtype=np.float64).reshape(shape) / _SCALE,
        np.array(velocities, dtype=np.float64).reshape(shape) / _SCALE,
    )


def simulate_around(
    bodies: Sequence[Body],
    blocks: Sequence[Block] = (),
    *,
    num_frames: int,
    moment: int,
    gravity: float = GRAVITY,
) -> Motion:
    """Runs the engine to both sides of a moment: the past is a future with velocities turned round.

    Args:
        bodies: at frame `moment`; those that touch are about to hit each other.
        blocks: as for `simulate`.
        num_frames: of past and future together.
        moment: index of the frame at which `bodies` are as given.
        gravity: as for `simulate`.

    Raises:
        ValueError: if the moment is no frame.
    """
    if not 0 <= moment < num_frames:
        raise ValueError(f"moment must be 0 to {num_frames - 1}, got {moment}")
    turned = [replace(b, velocity=(-b.velocity[0], -b.velocity[1])) for b in bodies]
    past = simulate(turned, blocks, num_frames=moment + 1, gravity=gravity)
    future = simulate(bodies, blocks, num_frames=num_frames - moment, gravity=gravity)
    return Motion(
        np.concatenate((past.positions[:0:-1], future.positions)),
        np.concatenate((-past.velocities[:0:-1], future.velocities)),
    )


def _space(gravity: float, blocks: Sequence[Block]) -> pymunk.Space:
    import pymunk

    space = pymunk.Space()
    space.gravity = (0.0, gravity * _SCALE)
    space.collision_slop = 1e-3
    for block in blocks:
        corners = [
            (x * _SCALE, y * _SCALE)
            for x, y in (
                (block.left, block.top),
                (block.right, block.top),
                (block.right, block.bottom),
                (block.left, block.bottom),
            )
        ]
        shape = pymunk.Poly(space.static_body, corners)
        shape.elasticity, shape.friction = 1.0, 0.0
        space.add(shape)
    return space


def _add_body(space: pymunk.Space, body: Body) -> pymunk.Body:
    import pymunk

    moving = pymunk.Body(mass=1.0, moment=float("inf"))
    moving.position = (body.position[0] * _SCALE, body.position[1] * _SCALE)
    moving.velocity = (body.velocity[0] * _SCALE, body.velocity[1] * _SCALE)
    radius = body.radius * _SCALE
    shape: pymunk.Shape
    if body.shape == "disc":
        shape = pymunk.Circle(moving, radius)
    else:
        shape = pymunk.Poly.create_box(moving, (2 * radius, 2 * radius))
    shape.elasticity, shape.friction = 1.0, 0.0
    space.add(moving, shape)
    return moving
