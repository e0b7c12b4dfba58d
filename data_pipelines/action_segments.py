"""Annotated actions of videos, and the classes that they belong to.

Tables are those of EPIC-KITCHENS-100: video_id, start_timestamp, stop_timestamp, verb_class and
noun_class are needed, narration and narration_id are used if they are there, others are left alone.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NEEDED = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")


@dataclass(frozen=True)
class ActionSegment:
    """One annotated action.

    Attributes:
        name: unique in its table: the narration_id, or video and line.
        video_id: the video's file name without folder and extension.
        start_seconds: from the video's beginning.
        stop_seconds: after the start.
        verb_class: the number of the verb.
        noun_class: the number of the noun.
        narration: in words, "" if the table has none.
    """

    name: str
    video_id: str
    start_seconds: float
    stop_seconds: float
    verb_class: int
    noun_class: int
    narration: str = ""


@dataclass(frozen=True)
class ActionClasses:
    """The classes that heads tell apart; an action is a verb with a noun.

    Attributes:
        verbs: verb classes, ascending: head output i is verbs[i]; so for the others.
        nouns: noun classes.
        actions: pairs of both.
    """

    verbs: tuple[int, ...]
    nouns: tuple[int, ...]
    actions: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, segments: Sequence[ActionSegment]) -> ActionClasses:
        """Returns the classes that occur in segments."""
        pairs = sorted({(segment.verb_class, segment.noun_class) for segment in segments})
        verbs, nouns = ({pair[index] for pair in pairs} for index in range(2))
        return cls(tuple(sorted(verbs)), tuple(sorted(nouns)), tuple(pairs))

    @property
    def num_classes(self) -> dict[str, int]:
        """Returns the size of each head, in the order verb, noun, action."""
        return {"verb": len(self.verbs), "noun": len(self.nouns), "action": len(self.actions)}

    def labels(self, segments: Sequence[ActionSegment]) -> np.ndarray:
        """Returns for every segment the indices of verb, noun and action: (segments, 3), int64."""
        verbs, nouns, actions = (
            {value: index for index, value in enumerate(values)}
            for values in (self.verbs, self.nouns, self.actions)
        )
        rows = [
            (verbs[s.verb_class], nouns[s.noun_class], actions[s.verb_class, s.noun_class])
            for s in segments
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)


def read_segments(path: str | Path) -> tuple[ActionSegment, ...]:
    """Reads a table of annotations.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a column or a value is missing or makes no sense, with the line's number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table of annotations at {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}; a table of EPIC-KITCHENS-100 has "
                f"{', '.join(NEEDED)}"
            )
        segments = tuple(_segment(row, f"{path} line {reader.line_num}") for row in reader)
    if not segments:
        raise ValueError(f"{path} holds no actions, only the names of columns")
    names = [segment.name for segment in segments]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} has narration_id {twice} twice")
    return segments


def parse_timestamp(text: str) -> float:
    """Returns seconds of "HH:MM:SS.ss", "MM:SS.ss" or "SS.ss".

    Raises:
        ValueError: if it is something else.
    """
    try:
        parts = [float(part) for part in text.strip().split(":")]
    except ValueError:
        parts = []
    is_clock = all(0 <= part < 60 for part in parts[1:]) and all(p == int(p) for p in parts[:-1])
    if not 1 <= len(parts) <= 3 or not is_clock or not 0 <= parts[0] < math.inf:
        raise ValueError(f"{text!r} is no time: write HH:MM:SS.ss, or seconds")
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def split_by_video(
    segments: Sequence[ActionSegment], fraction: float, *, seed: int = 0
) -> tuple[tuple[ActionSegment, ...], tuple[ActionSegment, ...]]:
    """Divides segments so that no video is on both sides.

    Args:
        segments: of at least two videos.
        fraction: of the videos, in (0, 1), that are held out; at least one is.
        seed: same seed, same division.

    Returns:
        The segments that stay and those that are held out.

    Raises:
        ValueError: if the fraction is out of range, or there is one video only.
    """
    videos = sorted({segment.video_id for segment in segments})
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction of videos to hold out must be in (0, 1), got {fraction:g}")
    if len(videos) < 2:
        raise ValueError(f"actions of {len(videos)} video cannot be divided by video")
    count = min(max(round(fraction * len(videos)), 1), len(videos) - 1)
    chosen = np.random.default_rng(seed).permutation(len(videos))[:count]
    held = {videos[index] for index in chosen}
    stays = tuple(segment for segment in segments if segment.video_id not in held)
    return stays, tuple(segment for segment in segments if segment.video_id in held)


def _segment(row: Mapping[str, str | None], place: str) -> ActionSegment:
    values = {name: (row.get(name) or "").strip() for name in (*NEEDED, "narration")}
    if empty := [name for name in NEEDED if not values[name]]:
        raise ValueError(f"{place} has no {', '.join(empty)}")
    try:
        start, stop = (parse_timestamp(values[f"{end}_timestamp"]) for end in ("start", "stop"))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if stop <= start:
        raise ValueError(f"{place}: the action stops at {stop:g} s and starts at {start:g} s")
    for name in ("verb_class", "noun_class"):
        if not values[name].isdecimal():
            raise ValueError(f"{place}: {name} must be a whole number, got {values[name]!r}")
    return ActionSegment(
        name=(row.get("narration_id") or "").strip() or f"{values['video_id']} at {start:g} s",
        video_id=values["video_id"],
        start_seconds=start,
        stop_seconds=stop,
        verb_class=int(values["verb_class"]),
        noun_class=int(values["noun_class"]),
        narration=values["narration"],
    )
