"""Videos with an index, and videos without one to learn from."""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np

from data_pipelines.physics_videos.drawing import draw_frames
from data_pipelines.physics_videos.engine import FRAMES_PER_SECOND
from data_pipelines.physics_videos.free_play import Story, free_play
from data_pipelines.physics_videos.index import FORMAT, INDEX, PhysicsVideo
from data_pipelines.physics_videos.matched_sets import MatchedSet, render_pairs
from data_pipelines.video_writing import write_mp4

LOSSLESS = 0  # the rate factor: pairs are equal before the violation in the files, too
MIN_FRAMES = 16


def concept_names() -> tuple[str, ...]:
    """Returns the concepts: the files in the folder `concepts`."""
    files = (Path(__file__).parent / "concepts").glob("[a-z]*.py")
    return tuple(sorted(file.stem for file in files))


def matched_sets(
    concept: str, *, num_sets: int, num_frames: int, seed: int
) -> Iterator[MatchedSet]:
    """Yields sets of two pairs each; more sets begin with those of fewer.

    Raises:
        ValueError: if there is no such concept, or the videos would be too short.
    """
    if num_frames < MIN_FRAMES:
        raise ValueError(f"num_frames must be at least {MIN_FRAMES}, got {num_frames}")
    module = _concept(concept)
    for number in range(num_sets):
        rng = np.random.default_rng((seed, zlib.crc32(concept.encode()), number))
        yield module.matched_set(rng, num_frames=num_frames)


def write_matched_videos(
    folder: str | Path,
    *,
    num_pairs: int,
    concepts: tuple[str, ...] | None = None,
    num_frames: int = 32,
    size: int = 64,
    seed: int = 0,
) -> Path:
    """Writes pairs of possible and impossible videos, and what is what as `index.json`.

    Args:
        folder: gets one folder per concept.
        num_pairs: of each concept, even: a set has two.
        concepts: None: all of `concept_names`.
        num_frames: of each video, at 10 frames per second.
        size: height and width, even.
        seed: same seed, same videos.

    Returns:
        The index.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if num_pairs < 2 or num_pairs % 2:
        raise ValueError(f"num_pairs must be even, as a set has two; got {num_pairs}")
    folder, rows = Path(folder), []
    for concept in concepts or concept_names():
        sets = matched_sets(concept, num_sets=num_pairs // 2, num_frames=num_frames, seed=seed)
        for number, matched in enumerate(sets):
            rows += _write_set(folder, f"{concept}-{number:04d}", matched, size=size)
    index = {
        "format": FORMAT,
        "seed": seed,
        "frames_per_second": FRAMES_PER_SECOND,
        "videos": [{**asdict(row), "path": row.path.as_posix()} for row in rows],
    }
    path = folder / INDEX
    path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return path


def write_possible_videos(
    folder: str | Path, *, num_videos: int, num_frames: int = 32, size: int = 64, seed: int = 0
) -> list[Path]:
    """Writes videos in which nothing impossible happens, without labels: to pretrain on.

    Half of them are free play, the others are possible stories of the five concepts in turn. They
    are drawn apart from those of `write_matched_videos`: no seed makes the same video there.

    Returns:
        The paths, in the order written.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if num_videos < 1:
        raise ValueError(f"num_videos must be at least 1, got {num_videos}")
    if num_frames < MIN_FRAMES:
        raise ValueError(f"num_frames must be at least {MIN_FRAMES}, got {num_frames}")
    paths = []
    for number in range(num_videos):
        scene, positions = _possible_story(number, num_frames=num_frames, seed=seed)
        frames = draw_frames(scene, positions, size=size)
        path = Path(folder) / f"{number:06d}.mp4"
        paths.append(_write(path, frames))
    return paths


def _possible_story(number: int, *, num_frames: int, seed: int) -> Story:
    rng = np.random.default_rng((seed, zlib.crc32(b"possible only"), number))
    if number % 2:
        return free_play(rng, num_frames=num_frames)
    names = concept_names()
    matched = _concept(names[number // 2 % len(names)]).matched_set(rng, num_frames=num_frames)
    return Story(matched.scene, matched.possible[rng.integers(len(matched.possible))])


def _write_set(folder: Path, name: str, matched: MatchedSet, *, size: int) -> list[PhysicsVideo]:
    """Writes the pairs of a set: a row for each video."""
    rows = []
    for letter, pair in zip("ab", render_pairs(matched, size=size), strict=True):
        for is_possible, frames in ((True, pair.possible), (False, pair.impossible)):
            kind = "possible" if is_possible else "impossible"
            path = Path(matched.concept, f"{name}-{letter}-{kind}.mp4")
            _write(folder / path, frames)
            rows.append(
                PhysicsVideo(
                    path=path,
                    pair=f"{name}-{letter}",
                    set_name=name,
                    concept=matched.concept,
                    variant=matched.variant,
                    is_possible=is_possible,
                    violation_frame=None if is_possible else pair.violation_frame,
                )
            )
    return rows


def _write(path: Path, frames: np.ndarray) -> Path:
    return write_mp4(path, frames, frames_per_second=FRAMES_PER_SECOND, crf=LOSSLESS)


def _concept(name: str) -> ModuleType:
    if name not in concept_names():
        raise ValueError(f"no concept named {name!r}; choose from {', '.join(concept_names())}")
    return importlib.import_module(f"data_pipelines.physics_videos.concepts.{name}")
