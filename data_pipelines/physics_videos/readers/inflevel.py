"""InfLevel-lab: continuity.csv, gravity.csv and solidity.csv, whose rows name two videos each.

Columns: vid1_path, vid1_label ("possible" or another word), vid1_end_priming_2, and the same of
vid2. A video begins with two scenes that show what is to be known ("priming"); what is measured is
what follows, and of both videos of a pair the same number of frames, counted from the end.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data_pipelines.decoders.base import decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.physics_videos.index import PhysicsVideo, PhysicsVideos, Refused, with_partners

NAME, FRAME_STEP = "InfLevel", 5
CONCEPTS = ("continuity", "gravity", "solidity")


def is_layout(folder: Path) -> bool:
    """True if the table of one of the concepts is there."""
    return any((folder / f"{concept}.csv").is_file() for concept in CONCEPTS)


def read(folder: Path) -> PhysicsVideos:
    """Reads the tables and how long the videos are; rows that cannot be used are refused."""
    videos: list[PhysicsVideo] = []
    refused: list[Refused] = []
    for concept in CONCEPTS:
        table = folder / f"{concept}.csv"
        if not table.is_file():
            continue
        with table.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file)):
                try:
                    videos += _pair(folder, row, f"{concept}-{number:04d}", concept)
                except KeyError as error:
                    raise ValueError(f"{table} has no column {error}") from error
                except (OSError, ValueError) as error:
                    refused.append(Refused(f"{table.name}, row {number + 1}", str(error)))
    return with_partners(videos, refused)


def _pair(folder: Path, row: Mapping[str, str], name: str, concept: str) -> list[PhysicsVideo]:
    videos, lengths = [], []
    for which in ("vid1", "vid2"):
        path, first_frame = folder / row[f"{which}_path"], int(row[f"{which}_end_priming_2"]) + 1
        is_possible = row[f"{which}_label"] == "possible"
        videos.append(
            PhysicsVideo(path, name, name, concept, "", is_possible, first_frame=first_frame)
        )
        lengths.append(_num_frames(path) - first_frame)
    if min(lengths) < 1:
        raise ValueError(f"pair {name} has no frames after the priming")
    return [
        replace(video, first_frame=video.first_frame + length - min(lengths))
        for video, length in zip(videos, lengths, strict=True)
    ]


def _num_frames(path: Path) -> int:
    if not path.is_file():
        raise DecodeError(str(path), "no such file")
    with decoder_class("pyav")(path.read_bytes(), str(path)) as video:
        return len(video.timestamps_seconds())
