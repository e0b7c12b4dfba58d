"""IntPhys, development set (arXiv:1803.07616): O1/01/1/scene/scene_001.png and O1/01/1/status.json.

Each scene has four movies, two of them possible. Which impossible movie belongs to which possible
one is not said: it is the one that begins alike for longer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from data_pipelines.frames import DecodeError
from data_pipelines.images import read_image
from data_pipelines.physics_videos.index import PhysicsVideo, PhysicsVideos, Refused, with_partners

NAME, FRAME_STEP = "IntPhys", 2
BLOCKS = {"O1": "permanence", "O2": "shape constancy", "O3": "continuity"}
_EVERY_PIXEL = 4  # pictures are compared at every fourth pixel
_SAME = 1.0  # mean difference in grey levels up to which two pictures are the same


def is_layout(folder: Path) -> bool:
    """True if one of the blocks O1, O2, O3 is there, with scenes that have a status.json."""
    return any(next((folder / block).glob("*/*/status.json"), None) for block in BLOCKS)


def read(folder: Path) -> PhysicsVideos:
    """Reads all scenes; see `PhysicsVideos`."""
    videos: list[PhysicsVideo] = []
    refused: list[Refused] = []
    for block in BLOCKS:
        for scene in sorted(path for path in (folder / block).glob("*") if path.is_dir()):
            try:
                videos += _read_scene(scene, block)
            except (OSError, ValueError) as error:
                refused.append(Refused(str(scene), str(error)))
    return with_partners(videos, refused)


def frame_files(folder: Path) -> list[Path]:
    """Returns the pictures of a movie in the order of their numbers.

    Raises:
        ValueError: if there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    if not files:
        raise ValueError(f"{folder} holds no .png or .jpg")
    return files


def _read_scene(scene: Path, block: str) -> list[PhysicsVideo]:
    movies = [scene / str(number) for number in (1, 2, 3, 4)]
    are_possible = [_is_possible(movie / "status.json") for movie in movies]
    if sum(are_possible) != 2:
        raise ValueError(f"{scene} must have 2 possible movies of 4, got {sum(are_possible)}")
    pictures = [_small_pictures(movie / "scene") for movie in movies]
    possible = [i for i in range(4) if are_possible[i]]
    others = [i for i in range(4) if not are_possible[i]]
    alike = np.array([[_begin_alike(pictures[p], pictures[o]) for o in others] for p in possible])
    partners = others if np.trace(alike) >= np.trace(alike[:, ::-1]) else others[::-1]
    name = f"{block}-{scene.name}"
    return [
        PhysicsVideo(
            path=movies[movie] / "scene",
            pair=f"{name}-{letter}",
            set_name=name,
            concept=BLOCKS[block],
            variant="",
            is_possible=are_possible[movie],
            violation_frame=None
            if are_possible[movie]
            else _begin_alike(pictures[pair[0]], pictures[pair[1]]),
        )
        for letter, pair in zip("ab", zip(possible, partners, strict=True), strict=True)
        for movie in pair
    ]


def _is_possible(status: Path) -> bool:
    """Reads the verdict of a status.json.

    Raises:
        ValueError: if the file does not say.
    """
    if not status.is_file():
        raise ValueError(f"no file {status}")
    try:
        is_possible = json.loads(status.read_text(encoding="utf-8"))["header"]["is_possible"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{status} does not say header.is_possible") from error
    if not isinstance(is_possible, bool):
        raise ValueError(f"{status}: header.is_possible is {is_possible!r}, not true or false")
    return is_possible


def _small_pictures(folder: Path) -> np.ndarray:
    """Returns every fourth pixel: (time, height, width, 3), int16."""
    step = _EVERY_PIXEL
    pictures = [read_image(path)[::step, ::step].astype(np.int16) for path in frame_files(folder)]
    if len({picture.shape for picture in pictures}) > 1:
        raise DecodeError(str(folder), "its pictures have several sizes")
    return np.stack(pictures)


def _begin_alike(first: np.ndarray, second: np.ndarray) -> int:
    """Returns how many pictures are the same before the first one that is not."""
    time = min(len(first), len(second))
    if first.shape[1:] != second.shape[1:]:
        return 0
    differs = np.abs(first[:time] - second[:time]).mean((1, 2, 3)) > _SAME
    return int(differs.argmax()) if differs.any() else time
