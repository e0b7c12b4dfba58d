"""Matched sets: impossible videos made of the halves of possible ones.

Two possible stories show the same picture at one moment: things are hidden then, or are at the same
place with another velocity, which no picture shows. The first half of one and the second half of
the other are an impossible story, and the two crossings together show every frame of the two
possible stories just as often: no single frame tells possible from impossible (as IntPhys,
arXiv:1803.07616, Sec. 3, has it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_pipelines.physics_videos.drawing import draw_frames
from data_pipelines.physics_videos.scenes import Scene


@dataclass(frozen=True)
class MatchedSet:
    """Stories of one scene.

    Attributes:
        concept: that the impossible ones violate.
        variant: how.
        scene: what it looks like.
        possible: stories, each (time, things, 2): positions.
        impossible: stories, each of which begins as the possible one of the same index.
        cut: the first frame at which the physics is another one; pictures may differ later only.
        is_balanced: whether impossible and possible stories show the same frames equally often.
    """

    concept: str
    variant: str
    scene: Scene
    possible: tuple[np.ndarray, ...]
    impossible: tuple[np.ndarray, ...]
    cut: int
    is_balanced: bool


class RenderedPair(NamedTuple):
    """A possible and an impossible video that begin alike.

    Attributes:
        possible: (time, height, width, 3), uint8.
        impossible: the same shape.
        violation_frame: index of the first frame in which they differ.
    """

    possible: np.ndarray
    impossible: np.ndarray
    violation_frame: int


def crossed(
    concept: str, variant: str, scene: Scene, first: np.ndarray, second: np.ndarray, *, cut: int
) -> MatchedSet:
    """Makes four stories of two possible ones, (time, things, 2), that look alike at `cut`."""
    return MatchedSet(
        concept,
        variant,
        scene,
        possible=(first, second),
        impossible=(
            np.concatenate((first[:cut], second[cut:])),
            np.concatenate((second[:cut], first[cut:])),
        ),
        cut=cut,
        is_balanced=True,
    )


def render_pairs(matched: MatchedSet, *, size: int) -> list[RenderedPair]:
    """Draws the stories of a set, pair by pair.

    Raises:
        ValueError: if the videos of a pair show the same, or differ before the cut.
    """
    pairs = []
    for possible, impossible in zip(matched.possible, matched.impossible, strict=True):
        frames = draw_frames(matched.scene, possible, size=size)
        others = draw_frames(matched.scene, impossible, size=size)
        pairs.append(RenderedPair(frames, others, first_difference(frames, others)))
        if not matched.cut <= pairs[-1].violation_frame < len(frames):
            raise ValueError(
                f"{matched.concept} ({matched.variant}): the videos of a pair must first differ "
                f"from frame {matched.cut} to {len(frames) - 1}, got {pairs[-1].violation_frame}; "
                "num_frames may be too small"
            )
    return pairs


def first_difference(frames: np.ndarray, others: np.ndarray) -> int:
    """Returns the index of the first frame that differs; the number of frames if none does."""
    differs = (frames != others).reshape(len(frames), -1).any(1)
    return int(differs.argmax()) if differs.any() else len(frames)
