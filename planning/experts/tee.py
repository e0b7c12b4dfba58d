"""Geometry of the T of PushT: where it can be pushed, what a push does, how to walk around it.

All places are in the frame of the T: its centre of mass is the origin, the bar is above (y is
down), the stem below, in canvas pixels. Nothing rubs, and what is not pushed does not move: a push
at a point along a normal moves the T along that normal and turns it, in a fixed ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MASS_CENTRE = 45.0  # pixels below the middle of the top edge, which a state calls the block's place
DISC_RADIUS = 15.0
RADIUS_OF_GYRATION_SQUARED = 3000.0  # moment of inertia over mass
ANGLE_PIXELS = 57.3  # a turn of pi / 9 counts as much as 20 pixels, as in the success test

STANDOFF = 27.0  # from the T to where a push begins: the disc's radius and some room
CLEARANCE = 16.5  # of a way around the T: the disc and a little
CORNER_OFFSET = 20.0  # of the places at the corners that a way leads over, along both axes
_SAMPLES_OF_SEGMENT = 33

_BOXES = np.array([[-60.0, -45.0, 60.0, -15.0], [-15.0, -15.0, 15.0, 75.0]])  # x, y, x, y
# From, to, and the direction of a push. The disc does not fit deeper into the inner corners.
_FACES = (
    ((-57, -45), (57, -45), (0, 1)),
    ((60, -42), (60, -18), (-1, 0)),
    ((32, -15), (57, -15), (0, -1)),
    ((15, 2), (15, 72), (-1, 0)),
    ((12, 75), (-12, 75), (0, -1)),
    ((-15, 2), (-15, 72), (1, 0)),
    ((-32, -15), (-57, -15), (0, -1)),
    ((-60, -42), (-60, -18), (1, 0)),
)
_CORNERS = ((-60, -45, -1, -1), (60, -45, 1, -1), (60, -15, 1, 1), (-60, -15, -1, 1),
            (15, 75, 1, 1), (-15, 75, -1, 1))  # fmt: skip


@dataclass(frozen=True)
class Contacts:
    """Places at which the T can be pushed.

    Args:
        spacing: pixels from one to the next, about.
    """

    spacing: float = 6.0

    @cached_property
    def points(self) -> np.ndarray:
        """(contacts, 2), on the outline."""
        return np.concatenate([_between(a, b, self.spacing) for a, b, _ in _FACES])

    @cached_property
    def faces(self) -> np.ndarray:
        """(contacts,), the number of the face that each lies on."""
        counts = [len(_between(a, b, self.spacing)) for a, b, _ in _FACES]
        return np.repeat(np.arange(len(_FACES)), counts)

    @cached_property
    def normals(self) -> np.ndarray:
        """(contacts, 2), unit vectors into the T."""
        return np.array([normal for *_, normal in _FACES], dtype=np.float64)[self.faces]

    @cached_property
    def twists(self) -> np.ndarray:
        """(contacts, 3): what a push of 1 pixel at the centre of mass does: x, y, turn in pixels.

        A turn of one radian is `ANGLE_PIXELS`.
        """
        (x, y), (nx, ny) = self.points.T, self.normals.T
        turn = (x * ny - y * nx) / RADIUS_OF_GYRATION_SQUARED
        return np.column_stack([self.normals, turn * ANGLE_PIXELS])

    @cached_property
    def starts(self) -> np.ndarray:
        """(contacts, 2): where the disc stands before it pushes there."""
        return self.points - STANDOFF * self.normals

    @cached_property
    def from_corners(self) -> np.ndarray:
        """(contacts, corners): length of the shortest way from a corner to `starts`."""
        direct = lengths(self.starts[:, None], CORNERS)  # infinite where the T is in between
        return (direct[:, :, None] + BETWEEN_CORNERS).min(1)


def segment_clearance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns how near straight ways come to the T: (...), 0 where they lead through it.

    Args:
        one: (..., 2).
        other: (..., 2), to be broadcast with it.
    """
    share = np.linspace(0.0, 1.0, _SAMPLES_OF_SEGMENT)[:, None]
    points = one[..., None, :] + share * (other - one)[..., None, :]
    return distance(points).min(-1)


def distance(points: np.ndarray) -> np.ndarray:
    """Returns how far points (..., 2) are from the T: (...), 0 inside."""
    low, high = _BOXES[:, :2], _BOXES[:, 2:]
    beyond = np.maximum(np.maximum(low - points[..., None, :], points[..., None, :] - high), 0.0)
    return np.sqrt((beyond**2).sum(-1)).min(-1)


def lengths(one: np.ndarray, other: np.ndarray, clearance: float = CLEARANCE) -> np.ndarray:
    """Returns lengths of straight ways (...), infinite where they come too near to the T."""
    length = np.sqrt(((other - one) ** 2).sum(-1))
    return np.where(segment_clearance(one, other) >= clearance, length, np.inf)


def _between(a: tuple[int, int], b: tuple[int, int], spacing: float) -> np.ndarray:
    count = max(2, math.ceil(math.dist(a, b) / spacing) + 1)
    return np.linspace(a, b, count)


def _around_corners() -> np.ndarray:
    """Returns (corners, corners): lengths of shortest ways between corners (Floyd, Warshall)."""
    length = lengths(CORNERS[:, None], CORNERS[None])
    for middle in range(len(CORNERS)):
        length = np.minimum(length, length[:, middle, None] + length[None, middle])
    return length


CORNERS = np.array([(x + sx * CORNER_OFFSET, y + sy * CORNER_OFFSET) for x, y, sx, sy in _CORNERS])
BETWEEN_CORNERS = _around_corners()
