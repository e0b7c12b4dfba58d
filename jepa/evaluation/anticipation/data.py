"""Annotated videos for training, validation and test: tables read, clips planned, skips counted.

The pipelines are imported by name, as `jepa` does not import them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("train", "validation", "test")
SEGMENTS = "data_pipelines.action_segments"
TIMING = "data_pipelines.anticipation_timing"
CLIPS = "data_pipelines.observed_clips"


@dataclass(frozen=True)
class ClipOptions:
    """Which clips are seen, and of which actions.

    Attributes:
        frames_per_second: of a clip.
        anticipation_seconds: in validation and test.
        training_seconds: least and greatest in training.
        anchor: see `data_pipelines.anticipation_timing.AnticipationTiming`.
        short_start: likewise.
        draws_per_action: clips of every training action, each with a time of its own.
        held_out_fraction: of the videos, for each of validation and test without a table.
        decoder: of videos.
        seed: of the draws and of what is held out.
    """

    frames_per_second: float = 8.0
    anticipation_seconds: float = 1.0
    training_seconds: tuple[float, float] = (0.25, 1.75)
    anchor: str = "start"
    short_start: str = "skip"
    draws_per_action: int = 2
    held_out_fraction: float = 0.2
    decoder: str = "decord"
    seed: int = 0

    @property
    def greatest_seconds(self) -> float:
        """Returns the greatest anticipation time of any clip."""
        return max(self.anticipation_seconds, self.training_seconds[1])


@dataclass(frozen=True)
class AnticipationData:
    """Clips by part, ready to be read.

    Attributes:
        clips: by part, `data_pipelines.observed_clips.ObservedClips`.
        labels: by part, (segments, 3): indices of verb, noun and action.
        num_classes: of verb, noun and action, over all parts.
        skipped: by part, `SkippedSegment` with name and reason, known before decoding.
        segments: by part, the annotated actions.
        classes: `data_pipelines.action_segments.ActionClasses`.
    """

    clips: Mapping[str, Any]
    labels: Mapping[str, np.ndarray]
    num_classes: Mapping[str, int]
    skipped: Mapping[str, tuple[Any, ...]]
    segments: Mapping[str, Any]
    classes: Any

    def all_skipped(self, part: str) -> list[Any]:
        """Returns what is left out of a part, with what could not be decoded so far."""
        return [*self.skipped[part], *self.clips[part].skipped]


def read_data(
    videos: str | Path,
    tables: Mapping[str, str | Path | None],
    options: ClipOptions,
    *,
    clip_length_frames: int,
    image_size: int,
) -> AnticipationData:
    """Reads tables, looks at videos and plans clips; decodes first and last frames only.

    Args:
        videos: a folder.
        tables: by part; where there is none, videos are held out of the training table.
        options: which clips.
        clip_length_frames: of each clip.
        image_size: height and width of each clip in pixels.

    Raises:
        FileNotFoundError: if a table or the folder is missing.
        ValueError: if a table cannot be read, parts share a video, or no action can be used.
    """
    parts = read_parts(tables, options)
    every = [segment for segments in parts.values() for segment in segments]
    classes = importlib.import_module(SEGMENTS).ActionClasses.of(every)
    reading = importlib.import_module(CLIPS)
    named = reading.find_named_videos(
        videos, {segment.video_id for segment in every}, decoder=options.decoder
    )
    transforms = importlib.import_module("data_pipelines.transforms")
    transform = transforms.ResizeShortSideAndCenterCrop(image_size)
    plans = {
        part: _plan(part, segments, named, options, clip_length_frames)
        for part, segments in parts.items()
    }
    clips = {
        part: reading.ObservedClips(named, plan.clips, transform, decoder=options.decoder)
        for part, plan in plans.items()
    }
    return AnticipationData(
        clips=clips,
        labels={part: classes.labels(segments) for part, segments in parts.items()},
        num_classes=classes.num_classes,
        skipped={part: plan.skipped for part, plan in plans.items()},
        segments=parts,
        classes=classes,
    )


def read_parts(
    tables: Mapping[str, str | Path | None], options: ClipOptions
) -> dict[str, tuple[Any, ...]]:
    """Returns the annotated actions by part; no video is in two of them.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a table cannot be read, or two share a video.
    """
    module = importlib.import_module(SEGMENTS)
    parts = {part: module.read_segments(path) for part, path in tables.items() if path is not None}
    for offset, part in enumerate(("test", "validation")):
        if part not in parts:
            parts["train"], parts[part] = module.split_by_video(
                parts["train"], options.held_out_fraction, seed=options.seed + offset
            )
    names = {part: {segment.video_id for segment in parts[part]} for part in PARTS}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if shared := sorted(names[first] & names[second]):
            raise ValueError(
                f"{first} and {second} share {len(shared)} videos, as {shared[0]}: what is "
                "trained on must not be scored on"
            )
    return {part: parts[part] for part in PARTS}


def _plan(part: str, segments: Any, named: Any, options: ClipOptions, length: int) -> Any:  # noqa: ANN401
    """Plans the clips of one part."""
    module = importlib.import_module(TIMING)
    is_train, fixed = part == "train", options.anticipation_seconds
    draws_a_point = is_train and options.anchor == "official"
    timing = module.AnticipationTiming(
        clip_length_frames=length,
        frames_per_second=options.frames_per_second,
        anticipation_seconds=options.training_seconds if is_train else (fixed, fixed),
        anchor=options.anchor,
        point=module.OFFICIAL_TRAINING_POINT if draws_a_point else (0.0, 0.0),
        short_start=options.short_start,
    )
    try:
        return module.plan_clips(
            segments,
            named.durations_seconds,
            timing,
            draws_per_segment=options.draws_per_action if is_train else 1,
            unreadable=named.unreadable,
            seed=options.seed,
        )
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error
