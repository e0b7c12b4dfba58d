"""Which moments before an action a model may see, to say what comes.

Times only: `data_pipelines.observed_clips` reads the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from data_pipelines.action_segments import ActionSegment

Anchor = Literal["start", "official"]
ShortStart = Literal["skip", "repeat_first"]
TRAINING_SECONDS = (0.25, 1.75)
OFFICIAL_TRAINING_POINT = (0.0, 0.25)
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True)
class AnticipationTiming:
    """Which moments of a video are seen before an action.

    A clip is `clip_length_frames` moments, 1 / frames_per_second apart; a moment's frame is seen
    until the next moment. The last one ends where the clip ends, `anticipation_seconds` before the
    anchor: so a predictor that looks that far ahead looks at what begins at the anchor.

    Attributes:
        clip_length_frames: frames of a clip.
        frames_per_second: of the clip.
        anticipation_seconds: least and greatest time from the clip's end to the anchor; what is
            not fixed is drawn uniformly. V-JEPA 2 (arXiv:2506.09985, Sec. 6): 1 s in validation,
            0.25 s to 1.75 s in training.
        anchor: "start": the action's start, as the paper says. "official": the action's end, as
            the released code has it (facebookresearch/vjepa2 issue 173), where in validation up
            to all but the last second of the action is seen; `point` moves it.
        point: with "official" only, least and greatest share of the way from the action's end back
            to its start: the released code draws from (0, 0.25) in training, (0, 0) in validation.
        short_start: of a clip that would begin before the video does: "skip" names it and leaves
            it out, "repeat_first" shows the first frame for what is missing (the released code).

    Raises:
        ValueError: if a value is out of range.
    """

    clip_length_frames: int = 32
    frames_per_second: float = 8.0
    anticipation_seconds: tuple[float, float] = (1.0, 1.0)
    anchor: Anchor = "start"
    point: tuple[float, float] = (0.0, 0.0)
    short_start: ShortStart = "skip"

    def __post_init__(self) -> None:
        if self.clip_length_frames < 1 or not 0 < self.frames_per_second <= 1000:
            raise ValueError(
                f"clip_length_frames={self.clip_length_frames} must be at least 1 and "
                f"frames_per_second={self.frames_per_second:g} above 0 and at most 1000"
            )
        low, high = self.anticipation_seconds
        if not 0 <= low <= high < math.inf:
            raise ValueError(
                f"anticipation_seconds must be 0 <= least <= greatest, got {low:g} to {high:g}"
            )
        _refuse_unknown("anchor", self.anchor, get_args(Anchor))
        _refuse_unknown("short_start", self.short_start, get_args(ShortStart))
        if not 0 <= self.point[0] <= self.point[1] <= 1:
            raise ValueError(f"point must be 0 <= least <= greatest <= 1, got {self.point}")
        if self.anchor == "start" and self.point != (0.0, 0.0):
            raise ValueError(f"point={self.point} is of anchor='official'; 'start' has none")

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draws an anticipation time in seconds, and a point."""
        return float(rng.uniform(*self.anticipation_seconds)), float(rng.uniform(*self.point))

    def end_seconds(
        self, segment: ActionSegment, anticipation_seconds: float, point: float = 0.0
    ) -> float:
        """Returns when the clip before an action ends."""
        if self.anchor == "start":
            return segment.start_seconds - anticipation_seconds
        anchor = segment.start_seconds * point + (1 - point) * segment.stop_seconds
        return anchor - anticipation_seconds

    def moments_seconds(self, end_seconds: float) -> np.ndarray:
        """Returns the moments of a clip that ends then: (clip_length_frames,), ascending."""
        before = np.arange(self.clip_length_frames, 0, -1) / self.frames_per_second
        return end_seconds - before


@dataclass(frozen=True)
class ObservedClip:
    """What is seen before an action.

    Attributes:
        segment: the action.
        row: its place among the segments that were planned.
        anticipation_seconds: from the clip's end to the anchor.
        moments_seconds: (clip_length_frames,); those before 0 show the first frame.
    """

    segment: ActionSegment
    row: int
    anticipation_seconds: float
    moments_seconds: np.ndarray


class SkippedSegment(NamedTuple):
    """An action that could not be used, and why."""

    name: str
    reason: str


class ClipPlan(NamedTuple):
    """The clips of a table of actions, known before a frame is decoded.

    Attributes:
        clips: those of one segment are neighbours.
        skipped: segments of which there is none.
    """

    clips: tuple[ObservedClip, ...]
    skipped: tuple[SkippedSegment, ...]


def plan_clips(
    segments: Sequence[ActionSegment],
    durations_seconds: Mapping[str, float],
    timing: AnticipationTiming,
    *,
    draws_per_segment: int = 1,
    unreadable: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ClipPlan:
    """Plans what is seen before each action.

    A segment is used if its clips fit for every time that could be drawn, so that which ones are
    used does not depend on the draws.

    Args:
        segments: the actions.
        durations_seconds: of the videos, by video_id.
        timing: which moments.
        draws_per_segment: clips of each, which differ where the timing leaves something to draw.
        unreadable: video_id -> why the video cannot be read.
        seed: of the draws.

    Raises:
        ValueError: if no segment is left.
    """
    clips, skipped = [], []
    for row, segment in enumerate(segments):
        if reason := _misfit(segment, durations_seconds, timing, unreadable or {}):
            skipped.append(SkippedSegment(segment.name, reason))
            continue
        rng = np.random.default_rng((seed, row))
        for _ in range(draws_per_segment):
            anticipation, point = timing.draw(rng)
            moments = timing.moments_seconds(timing.end_seconds(segment, anticipation, point))
            clips.append(ObservedClip(segment, row, anticipation, moments))
    if not clips:
        raise ValueError(
            f"none of {len(segments)} actions can be used; first: {skipped[0].name}: "
            f"{skipped[0].reason}"
        )
    return ClipPlan(tuple(clips), tuple(skipped))


def _misfit(
    segment: ActionSegment,
    durations_seconds: Mapping[str, float],
    timing: AnticipationTiming,
    unreadable: Mapping[str, str],
) -> str | None:
    """Returns why an action cannot be used, or None."""
    if segment.video_id not in durations_seconds:
        return unreadable.get(segment.video_id, f"there is no video {segment.video_id}")
    (low, high), (near, far) = timing.anticipation_seconds, timing.point
    first, last = timing.end_seconds(segment, high, far), timing.end_seconds(segment, low, near)
    if (last_moment := timing.moments_seconds(last)[-1]) >= durations_seconds[segment.video_id]:
        duration = durations_seconds[segment.video_id]
        return f"the video ends at {duration:.2f} s, the clip looks at {last_moment:.2f} s"
    begin = timing.moments_seconds(first)[0]
    if timing.short_start == "skip" and begin < -_ROUNDING_SECONDS:
        return f"the clip would begin {-begin:.2f} s before the video"
    if first <= _ROUNDING_SECONDS:
        return "the clip would end before the video begins"
    return None


def _refuse_unknown(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
