"""Which frames make a clip: times and indices, no pixels.

A clip is `clip_length_frames` moments in time. At the video's own rate they are consecutive
frames; at an asked rate they are exact times, each shown by the frame on screen at that moment.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

ShortVideoPolicy = Literal["skip", "repeat_last"]

# A wanted time this part of a frame before the next frame counts as the next frame: decoders
# report times as 32-bit floats.
_TOLERANCE_FRAMES = 0.01


class ClipTooShortError(ValueError):
    """A video with fewer frames, or less time, than the clip needs."""


def sample_clip_indices(
    timestamps_seconds: np.ndarray,
    clip_length_frames: int,
    *,
    generator: torch.Generator,
    frames_per_second: float | None = None,
    duration_seconds: float | None = None,
    short_video: ShortVideoPolicy = "skip",
) -> np.ndarray:
    """Returns the frames of a clip that starts at a uniformly random moment.

    Args:
        timestamps_seconds: when each frame of the video starts: (num_frames,), increasing.
        clip_length_frames: how many frames the clip has.
        generator: where the start comes from; one number is drawn.
        frames_per_second: rate of the clip; None takes consecutive frames.
        duration_seconds: of the video; None: the last frame lasts as long as the average one.
        short_video: "skip" raises, "repeat_last" repeats the video's last frame.

    Returns:
        Frame indices: (clip_length_frames,), int64, not decreasing.

    Raises:
        ClipTooShortError: if the clip does not fit and short_video is "skip".
    """
    fraction = float(torch.rand((), generator=generator, dtype=torch.float64))
    return clip_indices_at(
        timestamps_seconds,
        clip_length_frames,
        fraction=fraction,
        frames_per_second=frames_per_second,
        duration_seconds=duration_seconds,
        short_video=short_video,
    )


def clip_indices_at(
    timestamps_seconds: np.ndarray,
    clip_length_frames: int,
    *,
    fraction: float,
    frames_per_second: float | None = None,
    duration_seconds: float | None = None,
    short_video: ShortVideoPolicy = "skip",
) -> np.ndarray:
    """Returns the frames of the clip at a place in the video: 0 is the first clip, near 1 the last.

    Args:
        fraction: in [0, 1), the place among all possible starts; 0.5 is the middle.
        timestamps_seconds: as in `sample_clip_indices`, and so the other arguments.
        clip_length_frames: see there.
        frames_per_second: see there.
        duration_seconds: see there.
        short_video: see there.
    """
    num_frames = len(timestamps_seconds)
    if duration_seconds is None:
        duration_seconds = end_seconds(timestamps_seconds)
    misfit = explain_misfit(
        num_frames, duration_seconds, clip_length_frames, frames_per_second=frames_per_second
    )
    if misfit and short_video == "skip":
        raise ClipTooShortError(misfit)
    if frames_per_second is None:
        start = int(fraction * max(num_frames - clip_length_frames + 1, 1))
        return np.minimum(start + np.arange(clip_length_frames), num_frames - 1)
    span_seconds = (clip_length_frames - 1) / frames_per_second
    slack_seconds = _TOLERANCE_FRAMES * duration_seconds / max(num_frames, 1)
    start_seconds = fraction * max(duration_seconds - span_seconds - slack_seconds, 0.0)
    wanted_seconds = start_seconds + np.arange(clip_length_frames) / frames_per_second
    return frames_on_screen(timestamps_seconds, wanted_seconds)


def frames_on_screen(timestamps_seconds: np.ndarray, wanted_seconds: np.ndarray) -> np.ndarray:
    """Returns the index of the last frame that starts at or before each wanted time.

    Args:
        timestamps_seconds: when each frame starts: (num_frames,), increasing.
        wanted_seconds: (time,); before the first frame gives 0, after the last frame the last.
    """
    interval = end_seconds(timestamps_seconds) / max(len(timestamps_seconds), 1)
    wanted = wanted_seconds + _TOLERANCE_FRAMES * interval
    indices = np.searchsorted(timestamps_seconds, wanted, side="right") - 1
    return np.clip(indices, 0, len(timestamps_seconds) - 1)


def explain_misfit(
    num_frames: int,
    duration_seconds: float,
    clip_length_frames: int,
    *,
    frames_per_second: float | None = None,
) -> str | None:
    """Returns why a clip does not fit into a video, or None if it fits.

    At the video's own rate a clip needs its number of frames. At an asked rate its last moment
    must lie before the video's end.
    """
    if frames_per_second is None:
        if num_frames >= clip_length_frames:
            return None
        return f"clip needs {clip_length_frames} frames but the video has {num_frames}"
    span_seconds = (clip_length_frames - 1) / frames_per_second
    if num_frames > 0 and span_seconds < duration_seconds:
        return None
    return (
        f"clip needs {clip_length_frames} frames at {frames_per_second:g} frames per second "
        f"({clip_length_frames / frames_per_second:.1f} s) but the video has {num_frames} "
        f"({duration_seconds:.1f} s)"
    )


def end_seconds(timestamps_seconds: np.ndarray) -> float:
    """Returns when the video ends, if its last frame lasts as long as the average one."""
    num_frames = len(timestamps_seconds)
    if num_frames < 2:
        return 1.0 if num_frames else 0.0  # one frame: how long it lasts is not known
    return float(timestamps_seconds[-1]) * num_frames / (num_frames - 1)
