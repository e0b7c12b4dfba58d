"""What is known of a video of a physics benchmark, and the index of those that we wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

INDEX = "index.json"
FORMAT = "physics videos 1"


@dataclass(frozen=True)
class PhysicsVideo:
    """One video.

    Attributes:
        path: a video file, or a folder of pictures.
        pair: the possible and the impossible video of a pair have the same name here.
        set_name: pairs that are not independent, since they share a scene, have the same one.
        concept: that the impossible video of the pair violates.
        variant: how; "" if the benchmark does not say.
        is_possible: whether nothing is violated in this video.
        violation_frame: index of the first frame that differs from the possible partner's; None for
            possible videos, and where it is not known.
        first_frame: where to begin; before it a benchmark shows what is to be known of the scene.
    """

    path: Path
    pair: str
    set_name: str
    concept: str
    variant: str
    is_possible: bool
    violation_frame: int | None = None
    first_frame: int = 0


class Refused(NamedTuple):
    """A file or folder that cannot be used."""

    path: str
    reason: str


class PhysicsVideos(NamedTuple):
    """What a reader found.

    Attributes:
        videos: each with a partner: of every pair one is possible and one is not.
        refused: what was left out, and why.
    """

    videos: tuple[PhysicsVideo, ...]
    refused: tuple[Refused, ...]


def is_layout(folder: Path) -> bool:
    """True if a folder has an index that we wrote."""
    return (folder / INDEX).is_file()


def read(folder: Path) -> PhysicsVideos:
    """Reads the index of `write_matched_videos`; videos that are missing are refused by name.

    Raises:
        ValueError: if the index is none of ours.
    """
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no text, no JSON, nested too deeply
        raise ValueError(f"{path} is no index of physics videos: {error}") from error
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"{path} has format {content['format']!r}; {FORMAT!r} is read")
        rows = [_video(row, folder) for row in content["videos"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no index of physics videos: {error!r}") from error
    there = [row for row in rows if row.path.is_file()]
    missing = [Refused(str(row.path), "no such file") for row in rows if not row.path.is_file()]
    return with_partners(there, missing)


def with_partners(videos: list[PhysicsVideo], refused: list[Refused]) -> PhysicsVideos:
    """Refuses videos that are not one of exactly two, a possible and an impossible one."""
    pairs: dict[str, list[PhysicsVideo]] = {}
    for video in videos:
        pairs.setdefault(video.pair, []).append(video)
    kept: list[PhysicsVideo] = []
    for name, members in pairs.items():
        if sorted(video.is_possible for video in members) == [False, True]:
            kept += members
            continue
        kinds = " and ".join("possible" if v.is_possible else "impossible" for v in members)
        reason = f"pair {name} must be a possible and an impossible video; there is {kinds}"
        refused = [*refused, *(Refused(str(video.path), reason) for video in members)]
    return PhysicsVideos(tuple(kept), tuple(refused))


def _video(row: dict[str, Any], folder: Path) -> PhysicsVideo:
    video = PhysicsVideo(**row)
    return replace(video, path=folder / video.path)
