"""Which frames make a clip: times and indices, no pixels.

A clip is `clip_length_frames` moments in time. They are every `frame_stride`-th frame, or, at an
asked rate, exact times, each shown by the frame on screen at that moment: the same for videos of
constant and of variable frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:  # packing imports this file too, and each of its workers would load torch
    import torch

ClipPlacement = Literal[
    "random", "middle", "uniform", "jittered", "official", "official_overlapping"
]
ShortVideoPolicy = Literal["skip", "repeat_last", "loop", "official"]

# A wanted time this part of a frame before the next frame counts as the next frame: decoders
# report times as 32-bit floats.
_TOLERANCE_FRAMES = 0.01


class ClipTooShortError(ValueError):
    """A video with fewer frames, or less time, than the clip needs."""


class ClipSampler(Protocol):
    """Chooses the frames of a video's clips: `ClipSampling`, or `OfficialClipSampling`."""

    @property
    def clip_length_frames(self) -> int:
        """Frames of a clip."""
        ...

    @property
    def clips_per_video(self) -> int:
        """How many clips `indices` returns."""
        ...

    def indices(
        self,
        timestamps_seconds: np.ndarray,
        *,
        generator: torch.Generator,
        duration_seconds: float | None = None,
    ) -> np.ndarray:
        """Returns frame indices: (clips, time), int64."""
        ...

    def explain_misfit(self, num_frames: int, duration_seconds: float) -> str | None:
        """Returns why a video cannot be used, or None if it can."""
        ...


@dataclass(frozen=True)
class ClipSampling:
    """How clips are taken from a video.

    Attributes:
        clip_length_frames: how many frames a clip has.
        frames_per_second: rate of the clip, by time stamps; None counts frames instead.
        frame_stride: every so many frames one is taken; above 1 only without frames_per_second.
        clips_per_video: how many clips `indices` returns.
        placement: where they start.
            "random": each anywhere, independently.
            "middle": each in the middle of the video.
            "uniform": each in the middle of its own one of `clips_per_video` equal parts of the
            video. Parts that are shorter than a clip: from the first possible start to the last,
            equally spaced, so that clips overlap as little as they can.
            "jittered": each anywhere in its own part; parts that are shorter than a clip: each in
            its own one of `clips_per_video` equal parts of the possible starts.
        short_video: of a video in which one clip does not fit.
            "skip" raises, "repeat_last" starts at its first frame and repeats its last, "loop"
            starts at its first frame and again from there after its end.

    Raises:
        ValueError: if a value is out of range, or two exclude each other.
    """

    clip_length_frames: int = 16
    frames_per_second: float | None = None
    frame_stride: int = 1
    clips_per_video: int = 1
    placement: ClipPlacement = "random"
    short_video: ShortVideoPolicy = "skip"

    def __post_init__(self) -> None:
        refuse_impossible_clips(
            self.clip_length_frames, self.clips_per_video, self.frames_per_second, self.frame_stride
        )
        if self.placement.startswith("official") or self.short_video == "official":
            raise ValueError(
                f"placement={self.placement!r} with short_video={self.short_video!r}: what the "
                "official sampler does is `OfficialClipSampling`"
            )

    def indices(
        self,
        timestamps_seconds: np.ndarray,
        *,
        generator: torch.Generator,
        duration_seconds: float | None = None,
    ) -> np.ndarray:
        """Returns the frames of the clips, earliest clip first unless placement is "random".

        Args:
            timestamps_seconds: when each frame of the video starts: (num_frames,), increasing.
            generator: one number is drawn for each clip that has a random place.
            duration_seconds: of the video; None: the last frame lasts as long as the average one.

        Returns:
            Frame indices: (clips, time), int64; not decreasing within a clip unless it loops.

        Raises:
            ClipTooShortError: if a clip does not fit and short_video is "skip".
        """
        duration_seconds = fitting_duration(self, timestamps_seconds, duration_seconds)
        fractions = self._fractions(generator)  # (clips,), of the room of each clip
        if self.frames_per_second is None:
            return self._by_frames(len(timestamps_seconds), fractions)
        return self._by_time(timestamps_seconds, duration_seconds, fractions)

    def explain_misfit(self, num_frames: int, duration_seconds: float) -> str | None:
        """Returns why a video cannot be used, or None if it can."""
        if num_frames == 0:
            return "the video has no frames"
        if self.short_video != "skip":
            return None
        return explain_misfit(
            num_frames,
            duration_seconds,
            self.clip_length_frames,
            frames_per_second=self.frames_per_second,
            frame_stride=self.frame_stride,
        )

    @property
    def _has_parts(self) -> bool:
        return self.placement in ("uniform", "jittered")

    def _fractions(self, generator: torch.Generator) -> np.ndarray:
        if self.placement in ("middle", "uniform"):
            return np.full(self.clips_per_video, 0.5)
        import torch

        draws = [
            float(torch.rand((), generator=generator, dtype=torch.float64))
            for _ in range(self.clips_per_video)
        ]
        return np.array(draws)

    def _by_frames(self, num_frames: int, fractions: np.ndarray) -> np.ndarray:
        steps = np.arange(self.clip_length_frames) * self.frame_stride
        firsts, counts = self._possible_frames(num_frames, int(steps[-1]) + 1)
        starts = firsts + (fractions * counts).astype(np.int64)
        wanted = starts[:, None] + steps  # (clips, time)
        return wanted % num_frames if self._loops else np.minimum(wanted, num_frames - 1)

    def _possible_frames(self, num_frames: int, span: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns each clip's first possible start, and how many there are: (clips,) each."""
        clips, numbers = self.clips_per_video, np.arange(self.clips_per_video)
        last = max(num_frames - span, 0)  # possible start
        if not self._has_parts:
            return np.zeros_like(numbers), np.full(clips, last + 1)
        if num_frames // clips >= span:
            borders = np.arange(clips + 1) * num_frames // clips
            return borders[:-1], np.diff(borders) - span + 1
        if self.placement == "uniform":
            return numbers * last // max(clips - 1, 1), np.ones_like(numbers)
        borders = np.arange(clips + 1) * (last + 1) // clips
        return borders[:-1], np.maximum(np.diff(borders), 1)

    def _by_time(
        self, timestamps_seconds: np.ndarray, duration_seconds: float, fractions: np.ndarray
    ) -> np.ndarray:
        steps_seconds = np.arange(self.clip_length_frames) / (self.frames_per_second or 1.0)
        slack_seconds = _TOLERANCE_FRAMES * duration_seconds / len(timestamps_seconds)
        need_seconds = float(steps_seconds[-1]) + slack_seconds
        last_seconds = max(float(timestamps_seconds[-1] - steps_seconds[-1]), 0.0)
        firsts, rooms = self._possible_seconds(duration_seconds, need_seconds, last_seconds)
        wanted_seconds = (firsts + fractions * rooms)[:, None] + steps_seconds  # (clips, time)
        if self._loops:
            wanted_seconds = (wanted_seconds + slack_seconds) % duration_seconds - slack_seconds
        return frames_on_screen(timestamps_seconds, wanted_seconds)

    def _possible_seconds(
        self, duration_seconds: float, need_seconds: float, last_seconds: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns each clip's first possible start, and the room behind it: (clips,) each.

        Args:
            duration_seconds: of the video.
            need_seconds: from a clip's first moment to its last, and a little more.
            last_seconds: the start that makes the clip's last moment the last frame's start; a
                clip may start up to a frame later.
        """
        clips, numbers = self.clips_per_video, np.arange(self.clips_per_video)
        room_seconds = max(duration_seconds - need_seconds, 0.0)
        part_seconds = duration_seconds / clips
        if not self._has_parts:
            return np.zeros(clips), np.full(clips, room_seconds)
        if part_seconds >= need_seconds:
            return numbers * part_seconds, np.full(clips, part_seconds - need_seconds)
        if self.placement == "uniform":
            return numbers * last_seconds / max(clips - 1, 1), np.zeros(clips)
        return numbers * room_seconds / clips, np.full(clips, room_seconds / clips)

    @property
    def _loops(self) -> bool:
        return self.short_video == "loop"


def frames_on_screen(timestamps_seconds: np.ndarray, wanted_seconds: np.ndarray) -> np.ndarray:
    """Returns the index of the last frame that starts at or before each wanted time.

    Args:
        timestamps_seconds: when each frame starts: (num_frames,), increasing.
        wanted_seconds: of any shape; before the first frame gives 0, after the last frame the last.
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
    frame_stride: int = 1,
) -> str | None:
    """Returns why a clip does not fit into a video, or None if it fits.

    Counted in frames a clip needs all of them, from its first to its last. At an asked rate its
    last moment must lie before the video's end.
    """
    if frames_per_second is None:
        span = (clip_length_frames - 1) * frame_stride + 1
        if num_frames >= span:
            return None
        taken = f" ({clip_length_frames}, every {frame_stride} frames)" if frame_stride > 1 else ""
        return f"clip needs {span} frames{taken} but the video has {num_frames}"
    span_seconds = (clip_length_frames - 1) / frames_per_second
    if num_frames > 0 and span_seconds < duration_seconds:
        return None
    return (
        f"clip needs {clip_length_frames} frames at {frames_per_second:g} frames per second "
        f"({clip_length_frames / frames_per_second:.1f} s) but the video has {num_frames} "
        f"({duration_seconds:.1f} s)"
    )


def fitting_duration(
    sampler: ClipSampler, timestamps_seconds: np.ndarray, duration_seconds: float | None
) -> float:
    """Returns how long a video lasts that clips can be taken from.

    Args:
        sampler: says which videos do not fit.
        timestamps_seconds: when each frame of the video starts: (num_frames,), increasing.
        duration_seconds: if it is known; None: the last frame lasts as long as the average one.

    Raises:
        ClipTooShortError: that says why the video does not fit.
    """
    if duration_seconds is None:
        duration_seconds = end_seconds(timestamps_seconds)
    if misfit := sampler.explain_misfit(len(timestamps_seconds), duration_seconds):
        raise ClipTooShortError(misfit)
    return duration_seconds


def end_seconds(timestamps_seconds: np.ndarray) -> float:
    """Returns when the video ends, if its last frame lasts as long as the average one."""
    num_frames = len(timestamps_seconds)
    if num_frames < 2:
        return 1.0 if num_frames else 0.0  # one frame: how long it lasts is not known
    return float(timestamps_seconds[-1]) * num_frames / (num_frames - 1)


def refuse_impossible_clips(
    clip_length_frames: int, clips_per_video: int, frames_per_second: float | None, stride: int
) -> None:
    """Raises ValueError if a number is out of range, or a rate and a stride are both given."""
    if clip_length_frames < 1 or clips_per_video < 1 or stride < 1:
        raise ValueError(
            f"clip_length_frames={clip_length_frames}, clips_per_video={clips_per_video} and "
            f"frame_stride={stride} must be at least 1"
        )
    if frames_per_second is None:
        return
    if not 0 < frames_per_second < float("inf"):
        raise ValueError(f"frames_per_second must be above 0, got {frames_per_second:g}")
    if stride > 1:
        raise ValueError(
            f"frames_per_second={frames_per_second:g} and frame_stride={stride} exclude each "
            "other: give a rate in time, or a stride in frames"
        )
