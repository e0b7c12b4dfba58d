"""Windows of trajectories out of shards: frames, states and actions in step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.batch import SkippedSample, TrajectoryBatch
from data_pipelines.clip_dataset import ClipPlace
from data_pipelines.clip_sampling import ClipTooShortError, explain_misfit
from data_pipelines.decoders.base import DecoderName
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.streams import ShardDataset
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import ClipTransform


class TrajectorySample(NamedTuple):
    """All windows taken from one trajectory.

    Attributes:
        frames: (windows, 3, time, height, width), uint8.
        states: (windows, time, state_dim), float32.
        actions: (windows, time - 1, action_dim), float32.
        key: of the trajectory.
        skipped: samples that failed before this one.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    key: str
    skipped: tuple[SkippedSample, ...]

    @staticmethod
    def join(samples: Sequence[TrajectorySample]) -> TrajectoryBatch:
        """Returns a batch of the windows of several trajectories."""
        return TrajectoryBatch(
            frames=torch.cat([sample.frames for sample in samples]),
            states=torch.cat([sample.states for sample in samples]),
            actions=torch.cat([sample.actions for sample in samples]),
            keys=tuple(sample.key for sample in samples for _ in sample.frames),
            skipped=tuple(skip for sample in samples for skip in sample.skipped),
        )


class TrajectoryDataset(ShardDataset[TrajectorySample]):
    """Aligned windows of frames, states and actions.

    Args:
        index: shards of trajectories.
        clip_length_frames: frames per window.
        transform: frames to the model's size; must not crop or mirror, actions would not follow.
        windows_per_trajectory: how many windows each visit to a trajectory gives.
        frame_stride: every so many recorded frames one is taken.
        concatenate_actions: with a stride above 1, the actions in between are joined into one
            longer action, in their order: (time - 1, frame_stride * action_dim).
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in a child process, whose crash or hang costs one sample.
        place: "random" starts, or "middle" of the trajectory.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        clip_length_frames: int,
        transform: ClipTransform,
        windows_per_trajectory: int = 1,
        frame_stride: int = 1,
        concatenate_actions: bool = False,
        decoder: DecoderName = "decord",
        isolate_decoding: bool = False,
        place: ClipPlace = "random",
    ) -> None:
        super().__init__(index, decoder=decoder, isolate_decoding=isolate_decoding)
        refuse_videos_without_actions(index)
        refuse_stride_that_loses_actions(frame_stride, concatenate_actions)
        self.clip_length_frames = clip_length_frames
        self.transform = transform
        self.windows_per_trajectory = windows_per_trajectory
        self.frame_stride = frame_stride
        self.place = place

    def read(
        self, sample: Sample, generator: torch.Generator, skipped: tuple[SkippedSample, ...]
    ) -> TrajectorySample:
        """Decodes the union of the windows' frames once; states and actions keep in step."""
        states = self.reader.read_array(sample, STATES)  # (T, state_dim)
        actions = self.reader.read_array(sample, ACTIONS)  # (T - 1, action_dim)
        with self._open(sample) as video:
            num_frames = len(video.timestamps_seconds())
            _refuse_misaligned(sample, num_frames, states, actions)
            starts = self._starts(num_frames, generator)  # (windows,)
            windows = starts[:, None] + np.arange(self.clip_length_frames) * self.frame_stride
            union, places = np.unique(windows, return_inverse=True)  # windows: (windows, time)
            pixels = torch.from_numpy(video.frames_at(union).pixels)
        places = torch.from_numpy(places.reshape(windows.shape))  # (windows, time), into pixels
        return TrajectorySample(
            frames=torch.stack([self.transform(pixels[place], generator) for place in places]),
            states=torch.from_numpy(states[windows]),
            actions=torch.from_numpy(self._actions_of(actions, starts)),
            key=sample.key,
            skipped=skipped,
        )

    def _starts(self, num_frames: int, generator: torch.Generator) -> np.ndarray:
        span = (self.clip_length_frames - 1) * self.frame_stride + 1
        misfit = explain_misfit(num_frames, 0.0, span)
        if misfit:
            raise ClipTooShortError(misfit)
        if self.place == "middle":
            return np.full(self.windows_per_trajectory, (num_frames - span) // 2)
        count = (self.windows_per_trajectory,)
        return torch.randint(num_frames - span + 1, count, generator=generator).numpy()

    def _actions_of(self, actions: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Returns the actions from each window's frame to its next: (windows, time - 1, ...)."""
        num_actions = (self.clip_length_frames - 1) * self.frame_stride
        taken = actions[starts[:, None] + np.arange(num_actions)]
        return taken.reshape(len(starts), self.clip_length_frames - 1, -1)


def refuse_videos_without_actions(index: ShardIndex) -> None:
    """Raises if a sample has no states or actions."""
    for sample in index.samples:
        if not sample.is_trajectory:
            raise ShardError(
                f"{sample.shard}: sample '{sample.key}' has no {STATES} or no {ACTIONS}: these are "
                "shards of videos, trajectories are needed"
            )


def refuse_stride_that_loses_actions(frame_stride: int, concatenate_actions: bool) -> None:
    """Raises if actions between the taken frames would be lost."""
    if frame_stride < 1:
        raise ValueError(f"frame_stride must be at least 1, got {frame_stride}")
    if frame_stride > 1 and not concatenate_actions:
        raise ValueError(
            f"frame_stride={frame_stride} leaves out frames but not their actions; set "
            "concatenate_actions=True to join them into one longer action, or frame_stride=1"
        )


def _refuse_misaligned(
    sample: Sample, num_frames: int, states: np.ndarray, actions: np.ndarray
) -> None:
    if len(states) != num_frames or len(actions) != num_frames - 1:
        raise ShardError(
            f"'{sample.key}': {num_frames} frames, {len(states)} states, {len(actions)} actions; "
            "T frames need T states and T - 1 actions"
        )
