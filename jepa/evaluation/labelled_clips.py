"""Labelled data to probe on: the door to `data_pipelines.labelled_clips`, where they are read.

By name, as `jepa` does not import the pipelines.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from typing_extensions import Self

from data_pipelines.batch import SkippedSample

READING = "data_pipelines.labelled_clips.reading"


class LabelledSample(Protocol):
    """All clips of one sample."""

    @property
    def key(self) -> str:
        """Name of the sample."""
        ...

    @property
    def video(self) -> Tensor:
        """(clips * views, 3, time, height, width), uint8: of each moment view after view."""
        ...


class LabelledClips(Protocol):
    """Samples with one label each: `data[i]` gives the same clips every time, or says why none."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> LabelledSample | SkippedSample: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each sample."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """(samples,) class indices, or (samples, targets) numbers."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None: the labels are numbers to regress."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the numbers to regress; () if there are classes."""
        ...

    @property
    def recordings(self) -> tuple[str, ...]:
        """Which recording each sample is of."""
        ...

    @property
    def left_out(self) -> tuple[SkippedSample, ...]:
        """What could not be used before any clip was read."""
        ...

    @property
    def num_clips(self) -> int:
        """Moments of each sample."""
        ...

    @property
    def num_views(self) -> int:
        """Crops of each moment."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides clips and labels."""
        ...

    def take(self, numbers: Sequence[int] | np.ndarray) -> Self:
        """Returns the samples of these numbers, in this order."""
        ...

    def with_random_views(
        self, num_views: int, *, crop_scale: tuple[float, float] = (0.3, 1.0), seed: int = 0
    ) -> Self:
        """Returns the same samples to train on: random crops, as many rows of each moment."""
        ...


def read_labelled_clips(
    data: str | Path | Sequence[str | Path],
    *,
    clip_length_frames: int,
    image_size: int,
    num_clips: int = 1,
    num_views: int = 1,
    crop: str | None = None,
    frames_per_second: float | None = None,
    frame_stride: int = 1,
    short_video: str = "repeat_last",
    windows_per_trajectory: int = 8,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    decoder: str = "decord",
) -> LabelledClips:
    """Returns labelled samples; nothing is decoded yet.

    Args:
        data: shards of labelled videos or images, or of trajectories; a folder with one sub-folder
            of videos, or of images, for each class; or a list, .csv or text, of "path label".
        clip_length_frames: frames of a clip. An image is repeated to fill it.
        image_size: height and width of a clip, in pixels.
        num_clips: moments of each video, equally spaced; 1: its middle.
        num_views: square crops of each moment, along the long side; 1: its centre.
        crop: "official": short side to int(image_size * 256 / 224), then crops; "square": squares
            as large as the short side; "whole": the whole frame, squeezed. None: "official", of
            trajectories "whole", the only one that they can have.
        frames_per_second: of the clip, by time stamps; None counts frames instead.
        frame_stride: every so many frames one is taken; above 1 only without frames_per_second.
        short_video: "repeat_last", "loop" or "skip", of a video that is shorter than a clip.
        windows_per_trajectory: windows of each trajectory, equally spaced.
        target: None: the label, of trajectories the states. Of trajectories "states" (at the
            window's last frame), "actions" (their sum) or "motion" (the class of where that sum
            points), perhaps with columns, as in "states:x,y".
        classes: of another split of the same data, so that indices agree.
        decoder: of videos.

    Raises:
        FileNotFoundError: if there is nothing of this name.
        ValueError: if samples have no label, or settings do not fit the data.
    """
    return importlib.import_module(READING).read_labelled_clips(
        data,
        target=target,
        classes=classes,
        crop=crop,
        clip_length_frames=clip_length_frames,
        image_size=image_size,
        num_clips=num_clips,
        num_views=num_views,
        frames_per_second=frames_per_second,
        frame_stride=frame_stride,
        short_video=short_video,
        windows_per_trajectory=windows_per_trajectory,
        decoder=decoder,
    )


def split_labelled_clips(
    data: LabelledClips, shares: Mapping[str, float] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Divides a set by recording: never the same video, or group of them, in two parts.

    Args:
        data: to be divided.
        shares: name of a part -> its share; they add up to 1. None: train 0.6, validation 0.2,
            test 0.2.
        seed: same seed, same parts.

    Returns:
        Name of a part -> `LabelledClips`.

    Raises:
        ValueError: if there are fewer recordings than parts, or the shares do not add up.
    """
    reading = importlib.import_module(READING)
    return reading.split_labelled_clips(
        data, reading.SHARES if shares is None else shares, seed=seed
    )


def refuse_shared_recordings(parts: Mapping[str, LabelledClips]) -> None:
    """Raises ValueError, naming it, if two parts hold the same recording."""
    importlib.import_module(READING).refuse_shared_recordings(parts)
