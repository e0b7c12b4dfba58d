"""What the data pipelines hand to a model: the only file of this package that `jepa` imports."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SkippedSample(NamedTuple):
    """A sample that could not be used, and why: counted and named, never lost in silence."""

    key: str
    reason: str


class ClipBatch(NamedTuple):
    """Clips cut from videos.

    Attributes:
        video: (batch, 3, time, height, width), uint8, RGB in [0, 255]. Pixels stay bytes until
            they are on the model's device: a quarter of the traffic, and normalised in one place
            (`jepa.models.pixels`).
        timestamps_seconds: (batch, time), float32, of every frame in its source video.
        keys: one sample key per clip, as in the shard.
        skipped: samples that were replaced while this batch was made.
    """

    video: Tensor
    timestamps_seconds: Tensor
    keys: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()


class TrajectoryBatch(NamedTuple):
    """Aligned windows of frames, states and actions.

    Attributes:
        frames: (batch, 3, time, height, width), uint8, RGB in [0, 255].
        states: (batch, time, state_dim), float32, in the units of the shard's specification.
        actions: (batch, time - 1, action_dim), float32: actions[:, t] leads from frame t to
            frame t + 1.
        keys: one trajectory key per window.
        skipped: trajectories that were replaced while this batch was made.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    keys: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()
