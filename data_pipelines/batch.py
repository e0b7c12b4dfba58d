"""What the data pipelines hand to a model: the only file of this package that `jepa` imports."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from torch import Tensor

ItemT = TypeVar("ItemT")


class SkippedSample(NamedTuple):
    """A sample that could not be used, and why: counted and named, never lost in silence."""

    key: str
    reason: str


class View(NamedTuple):
    """Which clip of its video a clip is.

    Attributes:
        temporal: which moment of the video, from 0; in evaluation the earliest first.
        spatial: which crop of these frames, from 0, from the top or from the left.
    """

    temporal: int
    spatial: int


class ClipBatch(NamedTuple):
    """Clips cut from videos.

    All clips of one video are neighbours: moment after moment, and of each moment crop after crop.
    In evaluation, a video with more of them than a batch has rows is divided over neighbouring
    batches, which may be those of several ranks.

    Attributes:
        video: (batch, 3, time, height, width), uint8, RGB in [0, 255]. Pixels stay bytes until
            they are on the model's device: a quarter of the traffic, and normalised in one place
            (`jepa.models.pixels`).
        timestamps_seconds: (batch, time), float32, of every frame in its source video.
        keys: one sample key per clip, as in the shard.
        skipped: samples that were replaced while this batch was made.
        is_valid: (batch,), bool: False for padding and, in evaluation, for what could not be
            read; None: all are valid, as always in training.
        views: one per clip.
        seeds: one per clip, of what is drawn for it after the transfer to the model's device.
    """

    video: Tensor
    timestamps_seconds: Tensor
    keys: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()
    is_valid: Tensor | None = None
    views: tuple[View, ...] = ()
    seeds: tuple[int, ...] = ()

    def only_valid(self) -> ClipBatch:
        """Returns the batch without padding and unreadable clips; it may be empty."""
        if self.is_valid is None:
            return self
        return self._replace(
            video=self.video[self.is_valid],
            timestamps_seconds=self.timestamps_seconds[self.is_valid],
            keys=_chosen(self.keys, self.is_valid),
            views=_chosen(self.views, self.is_valid),
            seeds=_chosen(self.seeds, self.is_valid),
            is_valid=None,
        )


class TrajectoryBatch(NamedTuple):
    """Aligned windows of frames, states and actions.

    Attributes:
        frames: (batch, 3, time, height, width), uint8, RGB in [0, 255].
        states: (batch, time, state_dim), float32, in the units of the shard's specification.
        actions: (batch, time - 1, action_dim), float32: actions[:, t] leads from frame t to
            frame t + 1.
        keys: one trajectory key per window.
        skipped: trajectories that were replaced while this batch was made.
        is_valid: (batch,), bool: False for padding and, in evaluation, for what could not be
            read; None: all are valid, as always in training.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    keys: tuple[str, ...]
    skipped: tuple[SkippedSample, ...] = ()
    is_valid: Tensor | None = None

    def only_valid(self) -> TrajectoryBatch:
        """Returns the batch without padding and unreadable windows; it may be empty."""
        if self.is_valid is None:
            return self
        return self._replace(
            frames=self.frames[self.is_valid],
            states=self.states[self.is_valid],
            actions=self.actions[self.is_valid],
            keys=_chosen(self.keys, self.is_valid),
            is_valid=None,
        )


def _chosen(items: tuple[ItemT, ...], is_valid: Tensor) -> tuple[ItemT, ...]:
    """Returns the items of the valid places; an optional field that was not given stays empty."""
    if not items:
        return ()
    return tuple(item for item, valid in zip(items, is_valid.tolist(), strict=True) if valid)
