"""An expert of PushT: walks around the T, pushes where it helps most, and walks to its own goal.

Greedy, with the T's own mechanics (`planning.experts.tee`) and no search: at every step it chooses
the contact after whose push the T would be nearest to its goal, less what the walk there costs; it
keeps to what it chose until something else is clearly better. So it is no optimal expert, and what
it records is full of contacts, of detours and of second attempts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planning.experts.tee import (
    ANGLE_PIXELS,
    BETWEEN_CORNERS,
    CLEARANCE,
    CORNERS,
    DISC_RADIUS,
    MASS_CENTRE,
    RADIUS_OF_GYRATION_SQUARED,
    Contacts,
    distance,
    lengths,
)

if TYPE_CHECKING:
    from planning.types import Environment, TimeStep

# What the disc covers in a step of 0.1 s: so much of this action and so much of the one before.
GAIN, AFTER_GAIN = 0.2957, 0.1120
CANVAS_PIXELS = 512.0
KEPT_PIXELS, KEPT_SHARE = 6.0, 0.3  # how much better another contact must be: else it dithers
WALK_COST = 0.06  # of a pixel walked, in pixels of the T's distance
PUSH_PIXELS, WALK_PIXELS = 14.0, 30.0  # in a step, at most, at pace 1
CONTACTS = Contacts()


@dataclass
class PushingExpert:
    """Pushes the T to its goal, then goes to the disc's own; for one episode.

    Args:
        pace: of the disc, in (0, 1]. 1 is as fast as the controller follows well: up to 14 pixels
            a step while it pushes and up to 30 else. At 0.5 actions vary about as much as those
            of the published human data, whose standard deviation is 20 pixels.
        tolerance_pixels: the T is left where it is this near to its goal; see `ANGLE_PIXELS`.
    """

    pace: float = 1.0
    tolerance_pixels: float = 10.0
    _contact: int | None = field(default=None, init=False, repr=False)
    _place: np.ndarray | None = field(default=None, init=False, repr=False)
    _action: np.ndarray = field(default_factory=lambda: np.zeros(2), init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.pace <= 1:
            raise ValueError(f"pace must be in (0, 1], got {self.pace}")
        if not self.tolerance_pixels > 0:
            raise ValueError(f"tolerance_pixels must be above 0, got {self.tolerance_pixels}")
        self._max_push, self._max_walk = PUSH_PIXELS * self.pace, WALK_PIXELS * self.pace

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns (dx, dy) for the state that the environment shows."""
        state = np.asarray(time_step.state, dtype=np.float64)
        goal = np.asarray(environment.goal.state, dtype=np.float64)
        self._notice(state[:2])
        action = (self.move(state, goal) - AFTER_GAIN * self._action) / GAIN
        spec = environment.action_spec
        return np.clip(action, spec.low, spec.high).astype(np.float32)

    def move(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Returns where the disc should be one step later, from where it is: (2,) pixels.

        Args:
            state: (agent_x, agent_y, block_x, block_y, block_angle).
            goal: likewise.
        """
        to_world, centre = _frame(state)
        disc = (state[:2] - centre) @ to_world  # in the frame of the T
        error = _error(state, goal)
        left_alone_below = self.tolerance_pixels * (1.0 if self._contact is not None else 1.6)
        if np.linalg.norm(error) < left_alone_below:
            self._contact = None
            target = (goal[:2] - centre) @ to_world
            step = self._walk(disc, _way_to_place(disc, target), self._max_walk)
            return to_world @ step
        contact = self._choose(disc, error, to_world, centre)
        return to_world @ self._approach_or_push(disc, contact, error)

    def _notice(self, place: np.ndarray) -> None:
        """Infers the action that was executed last, whoever chose it, from where the disc went."""
        if self._place is not None:
            self._action = (place - self._place - AFTER_GAIN * self._action) / GAIN
        self._place = place.copy()

    def _choose(
        self, disc: np.ndarray, error: np.ndarray, to_world: np.ndarray, centre: np.ndarray
    ) -> int:
        """Returns the contact to push at, the one of before unless another is clearly better."""
        remaining, missing = _remaining(error), float(np.linalg.norm(error))
        walk = _walks(disc)
        score = remaining + WALK_COST * walk
        starts = CONTACTS.starts @ to_world.T + centre
        score[((starts < 0) | (starts > CANVAS_PIXELS)).any(1)] = np.inf
        best = int(score.argmin())
        kept = self._contact
        if kept is not None:
            near = (CONTACTS.faces == CONTACTS.faces[kept]) & (
                np.abs(CONTACTS.points - CONTACTS.points[kept]).sum(1) < 13.0
            )
            kept = int(np.where(near, score, np.inf).argmin())
            still_helps = remaining[kept] < missing - 1.0
            if still_helps and score[best] > score[kept] - min(KEPT_PIXELS, KEPT_SHARE * missing):
                best = kept
        self._contact = best
        return best

    def _approach_or_push(self, disc: np.ndarray, contact: int, error: np.ndarray) -> np.ndarray:
        """Returns the disc's next step, in the frame of the T."""
        point, normal = CONTACTS.points[contact], CONTACTS.normals[contact]
        before = float((point - disc) @ normal)  # of the disc's middle, from the face
        aside = (point - disc) - before * normal
        off_side = float(np.linalg.norm(aside))
        if off_side > 9.0 or not 5.0 < before < 45.0:
            return self._walk(disc, _way_to_contact(disc, contact), self._max_walk)
        until_touch = before - DISC_RADIUS
        is_lined_up = off_side <= 4.0 or until_touch <= 2.0
        depth = self._depth(contact, error) if is_lined_up else 0.0
        return aside + min(until_touch + depth, self._max_walk) * normal

    def _depth(self, contact: int, error: np.ndarray) -> float:
        """Returns how deep the next step pushes, in pixels: most of what is missing."""
        twist = CONTACTS.twists[contact]
        missing = float(error @ twist / (twist @ twist))  # at the centre of mass
        depth = float(np.clip(0.6 * missing, 0.5, self._max_push))
        lever = twist[2] / ANGLE_PIXELS  # radians per pixel
        return min(depth * (1.0 + lever**2 * RADIUS_OF_GYRATION_SQUARED), self._max_push)

    @staticmethod
    def _walk(disc: np.ndarray, target: np.ndarray, max_step: float) -> np.ndarray:
        offset = target - disc
        length = float(np.linalg.norm(offset))
        return offset * min(1.0, max_step / max(length, 1e-9))


def _frame(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rotation from the frame of the T to the canvas, and its centre of mass there."""
    cosine, sine = math.cos(state[4]), math.sin(state[4])
    to_world = np.array([[cosine, -sine], [sine, cosine]])
    return to_world, state[2:4] + to_world @ np.array([0.0, MASS_CENTRE])


def _error(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Returns what is missing to the goal, in the frame of the T: x, y and turn, in pixels."""
    to_world, centre = _frame(state)
    offset = (_frame(goal)[1] - centre) @ to_world
    turn = math.remainder(goal[4] - state[4], 2 * math.pi)
    return np.array([*offset, turn * ANGLE_PIXELS])


def _remaining(error: np.ndarray) -> np.ndarray:
    """Returns how far the T would be from its goal after the best push at each contact."""
    twists = CONTACTS.twists
    amount = np.clip(twists @ error / (twists**2).sum(1), 0.0, 80.0)
    return np.linalg.norm(error - amount[:, None] * twists, axis=1)


def _clearance(disc: np.ndarray) -> float:
    """A way may begin nearer to the T than it may come, but should not come nearer."""
    return min(CLEARANCE, float(distance(disc)) - 0.3)


def _walks(disc: np.ndarray) -> np.ndarray:
    """Returns the length of the way to where each contact is pushed from: (contacts,)."""
    clearance = _clearance(disc)
    direct = lengths(disc, CONTACTS.starts, clearance)
    first = lengths(disc, CORNERS, clearance)
    around = (first + CONTACTS.from_corners).min(1)
    return np.minimum(np.minimum(direct, around), 2000.0)


def _way_to_contact(disc: np.ndarray, contact: int) -> np.ndarray:
    """Returns the next place on the way to where a contact is pushed from."""
    clearance, start = _clearance(disc), CONTACTS.starts[contact]
    if np.isfinite(lengths(disc, start, clearance)):
        return start
    onward = lengths(disc, CORNERS, clearance) + CONTACTS.from_corners[contact]
    return CORNERS[onward.argmin()] if np.isfinite(onward).any() else _away(disc)


def _way_to_place(disc: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns the next place on the way to anywhere, which may be beside the T."""
    clearance = min(_clearance(disc), float(distance(place)) - 0.3)
    if np.isfinite(lengths(disc, place, clearance)):
        return place
    last = lengths(place, CORNERS, clearance)
    onward = lengths(disc, CORNERS, clearance) + (BETWEEN_CORNERS + last).min(1)
    return CORNERS[onward.argmin()] if np.isfinite(onward).any() else _away(disc)


def _away(disc: np.ndarray) -> np.ndarray:
    """Returns a place further from the T: along the way on which the distance grows most."""
    angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    ring = disc + 20.0 * np.column_stack([np.cos(angles), np.sin(angles)])
    return ring[distance(ring).argmax()]
