"""What comes out of a decoder: frames with their times, and the one error that decoding raises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class DecodeError(ValueError):
    """A video that cannot be read: one line that names it and says why."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = one_line(reason)
        super().__init__(f"{name}: {self.reason}")

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


@dataclass(frozen=True)
class VideoMetadata:
    """What is known of a video without looking at its pixels.

    Attributes:
        num_frames: how many frames there are.
        frames_per_second: the average rate, num_frames / duration_seconds.
        duration_seconds: from the first frame's start to the last frame's end.
        height: in pixels.
        width: in pixels.
    """

    num_frames: int
    frames_per_second: float
    duration_seconds: float
    height: int
    width: int


@dataclass(frozen=True)
class Frames:
    """Decoded frames, in the order they were asked for.

    Attributes:
        pixels: (time, height, width, 3), uint8, RGB.
        timestamps_seconds: (time,), float64, counted from the video's first frame.
    """

    pixels: np.ndarray
    timestamps_seconds: np.ndarray


def one_line(text: str, *, max_characters: int = 200) -> str:
    """Returns the first printable line of a message from elsewhere, cut to a readable length."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = "".join(c if c.isprintable() else "?" for c in lines[0]) if lines else "no reason given"
    return first if len(first) <= max_characters else first[: max_characters - 3] + "..."
