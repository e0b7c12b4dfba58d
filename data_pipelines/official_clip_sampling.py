"""Which frames the official V-JEPA loaders take: to reproduce old runs, for nothing else.

Differences from `ClipSampling` that a reader may trip over: the average rate of the video is
rounded up and then divided without remainder; and the clip's indices are equally spaced over a
window that is one stride longer than an exact stride needs, then cut off to whole numbers, so that
the step is uneven and longer than asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from data_pipelines.clip_sampling import (
    ShortVideoPolicy,
    fitting_duration,
    refuse_impossible_clips,
)


@dataclass(frozen=True)
class OfficialClipSampling:
    """How the official `VideoDataset` takes clips (facebookresearch/vjepa2, src/datasets).

    Two deviations: random numbers come from the generator instead of numpy's global state; and the
    average rate is computed from the time stamps, not read from the container.

    Attributes:
        clip_length_frames: `frames_per_clip`.
        frames_per_second: `fps`, a whole number; None uses the stride.
        frame_stride: `frame_step`.
        clips_per_video: `num_clips`; the video is divided into so many equal parts.
        allow_clip_overlap: parts too short for a clip: False takes a shorter clip out of each and
            repeats its last frame, True lets the clips overlap.
        has_random_starts: `random_clip_sampling`; False starts each clip with its part.
        short_video: "skip" (`filter_short_videos`) raises for a video shorter than one window of
            clip_length_frames strides; "official" repeats the last frame.

    Raises:
        ValueError: if a value is out of range, or two exclude each other.
    """

    clip_length_frames: int = 16
    frames_per_second: float | None = None
    frame_stride: int = 1
    clips_per_video: int = 1
    allow_clip_overlap: bool = False
    has_random_starts: bool = True
    short_video: ShortVideoPolicy = "official"

    def __post_init__(self) -> None:
        rate = self.frames_per_second
        refuse_impossible_clips(
            self.clip_length_frames, self.clips_per_video, rate, self.frame_stride
        )
        if rate is not None and rate != int(rate):
            raise ValueError(f"official sampling needs a whole frames_per_second, got {rate:g}")
        if self.short_video not in ("skip", "official"):
            raise ValueError(
                f"official sampling knows short_video 'skip' and 'official', got "
                f"{self.short_video!r}"
            )

    def indices(
        self,
        timestamps_seconds: np.ndarray,
        *,
        generator: torch.Generator,
        duration_seconds: float | None = None,
    ) -> np.ndarray:
        """Returns the frames of the clips, part after part.

        Args:
            timestamps_seconds: as for `ClipSampling.indices`.
            generator: one number is drawn for each part that is longer than a window.
            duration_seconds: as for `ClipSampling.indices`.

        Returns:
            Frame indices: (clips, time), int64.

        Raises:
            ClipTooShortError: if the video is too short or too slow for the settings.
        """
        num_frames = len(timestamps_seconds)
        duration_seconds = fitting_duration(self, timestamps_seconds, duration_seconds)
        stride = self._stride(num_frames, duration_seconds)
        window, part = stride * self.clip_length_frames, num_frames // self.clips_per_video
        starts = [0] * self.clips_per_video
        if self.has_random_starts and part > window:
            starts = [
                int(torch.randint(part - window, (), generator=generator)) for _ in starts
            ]  # the last possible start of a part is never drawn
        return official_clip_indices(
            num_frames,
            self.clip_length_frames,
            frame_stride=stride,
            starts=starts,
            allow_clip_overlap=self.allow_clip_overlap,
        )

    def explain_misfit(self, num_frames: int, duration_seconds: float) -> str | None:
        """Returns why a video cannot be used, or None if it can."""
        if num_frames == 0:
            return "the video has no frames"
        stride = self._stride(num_frames, duration_seconds)
        if stride == 0:
            return (
                f"official sampling at {self.frames_per_second:g} frames per second needs a video "
                f"of at least that rate, this one has {num_frames / duration_seconds:.2f}"
            )
        window = stride * self.clip_length_frames
        if self.short_video == "official" or num_frames >= window:
            return None
        return f"clip needs a window of {window} frames but the video has {num_frames}"

    def _stride(self, num_frames: int, duration_seconds: float) -> int:
        if self.frames_per_second is None:
            return self.frame_stride
        return official_frame_stride(num_frames / duration_seconds, int(self.frames_per_second))


def official_frame_stride(average_frames_per_second: float, frames_per_second: int) -> int:
    """Returns the video's average rate, rounded up, over the asked rate, rounded down.

    0 for a video that is slower than asked. Rates count to a thousandth, since time stamps are
    32-bit floats: 30.00001 is 30, 29.97 is rounded up.
    """
    return math.ceil(round(average_frames_per_second, 3)) // frames_per_second


def official_clip_indices(
    num_frames: int,
    clip_length_frames: int,
    *,
    frame_stride: int,
    starts: list[int],
    allow_clip_overlap: bool = False,
) -> np.ndarray:
    """Returns the frames that the official loader takes, for given random starts.

    Args:
        num_frames: of the video.
        clip_length_frames: of a clip.
        frame_stride: in frames; a window is clip_length_frames strides long.
        starts: of each clip's window in its part; used if parts are longer than a window.
        allow_clip_overlap: see `OfficialClipSampling`.

    Returns:
        (clips, time), int64. Places before the video's first frame, which the official code
        produces for fewer frames than clips, count from its end, as decord reads them.
    """
    clips, window = len(starts), frame_stride * clip_length_frames
    part = num_frames // clips
    if part > window:
        rows = [
            number * part + _spaced(start, start + window, clip_length_frames)
            for number, start in enumerate(starts)
        ]
    elif not allow_clip_overlap:
        row = _padded(part, clip_length_frames, frame_stride)
        rows = [number * part + row for number in range(clips)]
    else:
        row = _padded(min(window, num_frames) - 1, clip_length_frames, frame_stride)
        between = (num_frames - window) // (clips - 1) if num_frames > window else 0
        rows = [number * between + row for number in range(clips)]
    indices = np.stack(rows)
    return np.where(indices < 0, indices + num_frames, indices)


def _spaced(first: int, end: int, count: int) -> np.ndarray:
    """Returns numbers equally spaced from first to end, both included, below end and whole."""
    return np.minimum(np.linspace(first, end, num=count), end - 1).astype(np.int64)


def _padded(length: int, clip_length_frames: int, frame_stride: int) -> np.ndarray:
    """Returns one index per stride of a piece of video, then its last again and again."""
    spaced = _spaced(0, length, length // frame_stride)
    last = np.full(clip_length_frames - len(spaced), length - 1)
    return np.concatenate((spaced, last))
