"""How a ball goes to one of eight gates, and so tells what it will do there.

It rests, then heads for a gate. Speeding up it enters, hardly changing pace it bounces, slowing
down it stops, swerving it turns. The verb is what it does, the noun is the gate's colour.

One second before the action, where the ball is tells nothing: that is drawn first, and path and
pace are made to lead there. So anticipation needs motion, and with it is certain:
`anticipate_from_positions` is right from the ball's true positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GATE_COLOURS = {
    "red": (220, 40, 40),
    "orange": (240, 150, 30),
    "yellow": (235, 225, 60),
    "green": (50, 180, 60),
    "cyan": (60, 210, 220),
    "blue": (50, 70, 220),
    "purple": (150, 60, 190),
    "pink": (250, 150, 200),
}
# How far the ball comes from its rest to the last frame seen, in parts of the way left to the gate.
WAY_SO_FAR = {"enters": 0.3, "bounces": 0.65, "stops": 1.0, "turns": 0.65}
VERBS, NOUNS = tuple(WAY_SO_FAR), tuple(GATE_COLOURS)

MOVE_SECONDS = 2.0  # from the rest to the gate
SEEN_UNTIL_SECONDS = 1.125  # before the action: the last of 8 frames a second, 1 s ahead
GATE_DISTANCE = 0.38  # from the middle, in parts of the frame
SWERVE, SCATTER, ACTION_SPEED = 0.12, 0.08, 0.4  # the last per second


@dataclass(frozen=True)
class GateAction:
    """One action of the ball, and the way to it.

    Attributes:
        verb: one of `VERBS`.
        gate: place of the gate, 0 to 7, clockwise from the right.
        seen: x and y of the ball in the last frame that is seen, in parts of the frame.
        swerve: to which side, 1 or -1; makes a difference if it turns.
    """

    verb: str
    gate: int
    seen: tuple[float, float]
    swerve: int

    def positions(self, seconds: np.ndarray) -> np.ndarray:
        """Returns x and y of the ball: (time, 2).

        Args:
            seconds: from the action's start, negative before: (time,).
        """
        way = gate_places()[self.gate] - np.array(self.seen)
        length = float(np.hypot(*way))
        ahead, aside = way / length, np.array([-way[1], way[0]]) / length * self.swerve
        before = np.clip(seconds, -MOVE_SECONDS, 0.0)
        position = np.array(self.seen) + ahead * self._along(before, length)[:, None]
        if self.verb == "turns":
            part = (before + MOVE_SECONDS) / (MOVE_SECONDS - SEEN_UNTIL_SECONDS)
            position = position + aside * SWERVE * np.sin(np.pi * np.clip(part, 0, 1))[:, None]
        after = np.clip(seconds, 0.0, None)[:, None] * ACTION_SPEED
        follow = {"enters": ahead, "bounces": -ahead, "stops": 0 * ahead, "turns": aside}
        return position + after * follow[self.verb]

    def _along(self, seconds: np.ndarray, length: float) -> np.ndarray:
        """Returns the way from `seen` towards the gate under a constant acceleration.

        The ball is at rest until -MOVE_SECONDS, `length` from the gate at -SEEN_UNTIL_SECONDS, and
        at the gate at 0.
        """
        so_far = WAY_SO_FAR[self.verb] * length
        times = np.array([MOVE_SECONDS - SEEN_UNTIL_SECONDS, MOVE_SECONDS])
        ways = np.array([so_far, so_far + length])
        speed, acceleration = np.linalg.solve(np.stack([times, times**2 / 2], axis=1), ways)
        since = seconds + MOVE_SECONDS
        return speed * since + acceleration * since**2 / 2 - so_far


def draw_action(rng: np.random.Generator, verb: str, gate: int) -> GateAction:
    """Draws a way to a gate; the draws do not depend on verb and gate, so neither does `seen`."""
    angle, radius = rng.uniform(0, 2 * np.pi), SCATTER * np.sqrt(rng.random())
    seen = (0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle))
    return GateAction(verb, gate, seen, int(rng.choice((-1, 1))))


def anticipate_from_positions(positions: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """Returns verb_class and noun_class of what comes: the oracle, which sees no future.

    Args:
        positions: of the ball from its rest to 1 s before the action: (time, 2).
        places: for each noun the place of its gate: (8,).
    """
    rest, seen = positions[0], positions[-1]
    so_far, gates = seen - rest, gate_places()
    ways = gates - seen  # (gates, 2)
    cosines = ways @ so_far / (np.hypot(*ways.T) * np.hypot(*so_far))
    gate = int(cosines.argmax())
    aside = (positions - rest) @ np.array([-so_far[1], so_far[0]]) / np.hypot(*so_far)
    if abs(aside).max() > SWERVE / 2:
        return VERBS.index("turns"), int(np.flatnonzero(places == gate)[0])
    share = np.hypot(*so_far) / np.hypot(*ways[gate])
    straight = [verb for verb in VERBS if verb != "turns"]
    verb = min(straight, key=lambda name: abs(WAY_SO_FAR[name] - share))
    return VERBS.index(verb), int(np.flatnonzero(places == gate)[0])


def anticipate_clips(tracks: str | Path, clips: Sequence[Any]) -> list[tuple[int, int]]:
    """Returns (verb_class, noun_class) of what the oracle expects after each clip.

    Args:
        tracks: the tracks.npz beside the tables.
        clips: `data_pipelines.anticipation_timing.ObservedClip`; the oracle sees the ball's true
            positions at their moments, as far as they are of the way to the action.

    Raises:
        ValueError: if a video is not among the tracks, or a clip ends before the ball moves.
    """
    answers = []
    with np.load(tracks) as tables:
        for clip in clips:
            name, times = clip.segment.video_id, clip.moments_seconds
            if name not in tables:
                raise ValueError(f"{tracks} knows no video {name}: it is of other videos")
            since = times - clip.segment.start_seconds
            times = times[(since >= -MOVE_SECONDS - 1e-6) & (since < 0)]
            if len(times) < 2:
                raise ValueError(f"{clip.segment.name}: the clip ends before the ball moves")
            rate = float(tables["frames_per_second"])
            indices = np.round(times * rate).astype(int)
            answers.append(
                anticipate_from_positions(tables[name][indices], tables[f"{name}/gates"])
            )
    return answers


def gate_places() -> np.ndarray:
    """Returns x and y of the gates' centres, in parts of the frame: (8, 2)."""
    angles = 2 * np.pi * np.arange(len(NOUNS)) / len(NOUNS)
    return 0.5 + GATE_DISTANCE * np.stack([np.cos(angles), np.sin(angles)], axis=1)
