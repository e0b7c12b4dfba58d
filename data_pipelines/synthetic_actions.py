"""Videos in which the next action can be seen coming: a ball, eight gates, and what it does there.

Each video shows several actions, see `data_pipelines.gate_actions`; a table says when they are, in
the layout of EPIC-KITCHENS-100. The last frame seen, 1 s before an action, tells nothing of it.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.gate_actions import (
    GATE_COLOURS,
    MOVE_SECONDS,
    NOUNS,
    VERBS,
    draw_action,
    gate_places,
)
from data_pipelines.video_writing import write_mp4

PARTS = ("train", "validation", "test")
COLUMNS = (
    *("narration_id", "participant_id", "video_id", "narration_timestamp"),
    *("start_timestamp", "stop_timestamp", "start_frame", "stop_frame", "narration"),
    *("verb", "verb_class", "noun", "noun_class", "all_nouns", "all_noun_classes"),
)

LEAD_SECONDS, REST_SECONDS, ACTION_SECONDS = 1.0, 1.0, 1.0
CYCLE_SECONDS = REST_SECONDS + MOVE_SECONDS + ACTION_SECONDS
GATE_RADIUS, BALL_RADIUS = 0.09, 0.06  # in parts of the frame


class Annotated(NamedTuple):
    """A video that was drawn.

    Attributes:
        frames: (time, size, size, 3), uint8.
        positions: of the ball, x and y in parts of the frame: (time, 2).
        rows: of the annotation table, column -> value.
    """

    frames: np.ndarray
    positions: np.ndarray
    rows: list[dict[str, object]]


def write_synthetic_actions(
    folder: str | Path,
    *,
    num_videos: tuple[int, int, int] = (128, 32, 64),
    actions_per_video: int = 5,
    size: int = 64,
    frames_per_second: float = 16.0,
    shuffle_gates: bool = False,
    seed: int = 0,
) -> Path:
    """Writes train, validation and test videos with their annotations.

    The folder gets videos/PART/*.mp4, train.csv, validation.csv and test.csv in the layout of
    EPIC-KITCHENS-100, and tracks.npz, where the ball is in every frame: what the oracle sees.

    Args:
        folder: made if need be.
        num_videos: of the three parts.
        actions_per_video: each takes 4 s.
        size: height and width in pixels, even.
        frames_per_second: of the videos.
        shuffle_gates: colours change places from video to video, so that the noun is where the
            ball heads and which colour is there; else a colour has its place.
        seed: same seed, same videos.

    Returns:
        The folder.

    Raises:
        ValueError: if a number is out of range.
    """
    if min(num_videos) < 1 or actions_per_video < 1:
        raise ValueError(
            f"num_videos={num_videos} and actions_per_video={actions_per_video} must be at least 1"
        )
    folder = Path(folder)
    tracks: dict[str, np.ndarray] = {"frames_per_second": np.array(frames_per_second)}
    for number, (part, count) in enumerate(zip(PARTS, num_videos, strict=True)):
        rng, rows = np.random.default_rng((seed, number)), []
        labels = _balanced_labels(rng, count * actions_per_video)
        for index in range(count):
            name = f"{part}_{index:04d}"
            chosen = labels[index * actions_per_video : (index + 1) * actions_per_video]
            places = rng.permutation(len(NOUNS)) if shuffle_gates else np.arange(len(NOUNS))
            video = draw_video(
                rng, name, chosen, places, size=size, frames_per_second=frames_per_second
            )
            path = folder / "videos" / part / f"{name}.mp4"
            write_mp4(path, video.frames, frames_per_second=frames_per_second)
            tracks |= {name: video.positions.astype(np.float32), f"{name}/gates": places}
            rows += video.rows
        _write_table(folder / f"{part}.csv", rows)
    np.savez_compressed(folder / "tracks.npz", **tracks)  # pyright: ignore[reportArgumentType]
    return folder


def draw_video(
    rng: np.random.Generator,
    name: str,
    labels: Sequence[tuple[int, int]],
    places: np.ndarray,
    *,
    size: int,
    frames_per_second: float,
) -> Annotated:
    """Draws one video.

    Args:
        rng: chooses background, ways and swerves.
        name: the video_id.
        labels: (verb_class, noun_class) of its actions, in order.
        places: for each noun the place of its gate: (8,).
        size: height and width in pixels.
        frames_per_second: of the video.
    """
    actions = [draw_action(rng, VERBS[verb], int(places[noun])) for verb, noun in labels]
    seconds = LEAD_SECONDS + len(actions) * CYCLE_SECONDS
    times = np.arange(round(seconds * frames_per_second)) / frames_per_second
    cycles = np.clip((times - LEAD_SECONDS) // CYCLE_SECONDS, 0, len(actions) - 1).astype(int)
    positions = np.empty((len(times), 2))
    for index, action in enumerate(actions):
        positions[cycles == index] = action.positions(times[cycles == index] - _start(index))
    rows = [
        _row(name, index, verb, noun, frames_per_second)
        for index, (verb, noun) in enumerate(labels)
    ]
    scene = _draw_gates(rng, places, size)
    return Annotated(_draw_ball(scene, positions), positions, rows)


def _balanced_labels(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Returns labels in random order, all actions equally often as far as the count allows."""
    every = list(itertools.product(range(len(VERBS)), range(len(NOUNS))))
    rounds = [rng.permutation(len(every)) for _ in range(-(-count // len(every)))]
    chosen = np.concatenate(rounds)[:count]
    return [every[index] for index in rng.permutation(chosen)]


def _start(index: int) -> float:
    """Returns when an action of a video starts, in seconds."""
    return LEAD_SECONDS + index * CYCLE_SECONDS + REST_SECONDS + MOVE_SECONDS


def _row(name: str, index: int, verb: int, noun: int, rate: float) -> dict[str, object]:
    start, stop = _start(index), _start(index) + ACTION_SECONDS
    values = (f"{name}_{index}", "P00", name, _timestamp(start), _timestamp(start))
    frames = (_timestamp(stop), round(start * rate), round(stop * rate))
    words = (f"{VERBS[verb]} {NOUNS[noun]}", VERBS[verb], verb, NOUNS[noun], noun)
    return dict(
        zip(COLUMNS, (*values, *frames, *words, f"['{NOUNS[noun]}']", f"[{noun}]"), strict=True)
    )


def _timestamp(seconds: float) -> str:
    whole, hundredths = divmod(round(seconds * 100), 100)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{hundredths:02d}"


def _draw_gates(rng: np.random.Generator, places: np.ndarray, size: int) -> np.ndarray:
    """Draws what does not move: (size, size, 3), float."""
    scene = np.broadcast_to(rng.integers(40, 110, 3).astype(np.float64), (size, size, 3)).copy()
    for colour, place in zip(GATE_COLOURS.values(), places, strict=True):
        cover = _disc(gate_places()[place], GATE_RADIUS, size)
        scene += cover[..., None] * (np.array(colour) - scene)
    return scene


def _draw_ball(scene: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Draws a white ball over a scene: (time, size, size, 3), uint8."""
    frames = np.empty((len(positions), *scene.shape), dtype=np.uint8)
    for index, position in enumerate(positions):
        cover = _disc(position, BALL_RADIUS, len(scene))
        frames[index] = np.round(scene + cover[..., None] * (255.0 - scene))
    return frames


def _disc(centre: np.ndarray, radius: float, size: int) -> np.ndarray:
    """Returns how much of each pixel a disc covers, its edge one pixel soft: (size, size)."""
    grid = (np.arange(size) + 0.5) / size
    distance = np.hypot(grid[None, :] - centre[0], grid[:, None] - centre[1])
    return np.clip((radius - distance) * size + 0.5, 0.0, 1.0)


def _write_table(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
