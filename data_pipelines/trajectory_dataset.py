"""Windows of trajectories out of shards: frames, states and actions in step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.action_windows import ActionMode, ActionReduction, ActionWindows
from data_pipelines.batch import SkippedSample, TrajectoryBatch
from data_pipelines.clip_dataset import ClipPlace
from data_pipelines.clip_sampling import ClipTooShortError, explain_misfit
from data_pipelines.decoders.base import DecoderName
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.streams import ALL_CLIPS, ShardDataset
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import TrajectorySpecification
from data_pipelines.transforms import ClipTransform
from data_pipelines.urls import shown


class TrajectorySample(NamedTuple):
    """All windows taken from one trajectory.

    Attributes:
        frames: (windows, 3, time, height, width), uint8.
        states: (windows, time, state_dim), float32.
        actions: (windows, time - 1, action_dim), float32.
        key: of the trajectory.
        skipped: samples that failed before this one.
        is_valid: False for padding and for what could not be read.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    key: str
    skipped: tuple[SkippedSample, ...]
    is_valid: bool = True

    @staticmethod
    def join(samples: Sequence[TrajectorySample]) -> TrajectoryBatch:
        """Returns a batch of the windows of several trajectories."""
        return TrajectoryBatch(
            frames=torch.cat([sample.frames for sample in samples]),
            states=torch.cat([sample.states for sample in samples]),
            actions=torch.cat([sample.actions for sample in samples]),
            keys=tuple(sample.key for sample in samples for _ in sample.frames),
            skipped=tuple(skip for sample in samples for skip in sample.skipped),
            is_valid=torch.tensor([sample.is_valid for sample in samples for _ in sample.frames]),
        )


class TrajectoryDataset(ShardDataset[TrajectorySample]):
    """Aligned windows of frames, states and actions.

    Args:
        index: shards of trajectories.
        clip_length_frames: frames per window.
        transform: frames to the model's size; must not crop or mirror, actions would not follow.
        windows_per_trajectory: how many windows each visit to a trajectory gives.
        frame_stride: every so many recorded frames one is taken.
        frames_per_second: instead of a stride; see `ActionWindows`.
        actions: what leads from one taken frame to the next; see `action_windows`.
        action_reduction: which action stands for several, with actions="repeat".
        decoder: a name from `decoder_names`.
        isolate_decoding: see `ShardDataset`.
        reader: see `ShardDataset`.
        replace_unusable: see `ShardDataset`.
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
        frames_per_second: float | None = None,
        actions: ActionMode = "recorded",
        action_reduction: ActionReduction = "equal",
        decoder: DecoderName = "decord",
        isolate_decoding: bool | None = None,
        reader: ShardReader | None = None,
        replace_unusable: bool = True,
        place: ClipPlace = "random",
    ) -> None:
        super().__init__(
            index,
            decoder=decoder,
            isolate_decoding=isolate_decoding,
            reader=reader,
            replace_unusable=replace_unusable,
        )
        refuse_videos_without_actions(index)
        self.windows = ActionWindows(
            recorded_specification(index),
            clip_length_frames,
            mode=actions,
            frame_stride=frame_stride,
            frames_per_second=frames_per_second,
            reduction=action_reduction,
        )
        self.transform = transform
        self.windows_per_trajectory = windows_per_trajectory
        self.place = place

    def read(
        self,
        sample: Sample,
        generator: torch.Generator,
        skipped: tuple[SkippedSample, ...],
        chosen: slice = ALL_CLIPS,
    ) -> TrajectorySample:
        """Decodes the union of the windows' frames once; states and actions keep in step."""
        self.reader.prefetch(sample, (STATES, ACTIONS, sample.video_extension))
        states = self.reader.read_array(sample, STATES)  # (T, state_dim)
        actions = self.reader.read_array(sample, ACTIONS)  # (T - 1, action_dim)
        with self._open(sample) as video:
            num_frames = len(video.timestamps_seconds())
            _refuse_misaligned(sample, num_frames, states, actions)
            starts = self._starts(num_frames, generator)[chosen]  # (windows,)
            windows = self.windows.frames_from(starts)  # (windows, time)
            union, places = np.unique(windows, return_inverse=True)
            pixels = torch.from_numpy(video.frames_at(union).pixels)
        places = torch.from_numpy(places.reshape(windows.shape))  # (windows, time), into pixels
        return TrajectorySample(
            frames=torch.stack([self.transform(pixels[place], generator) for place in places]),
            states=torch.from_numpy(states[windows]),
            actions=torch.from_numpy(
                self.windows.actions_from(starts, states, actions, key=sample.key)
            ),
            key=sample.key,
            skipped=skipped,
        )

    def blank(
        self, key: str, skipped: tuple[SkippedSample, ...], chosen: slice = ALL_CLIPS
    ) -> TrajectorySample:
        """Returns black frames, zero states and zero actions that are not valid."""
        windows = len(range(self.windows_per_trajectory)[chosen])
        time = self.windows.clip_length_frames
        size = self.transform.image_size
        return TrajectorySample(
            frames=torch.zeros(windows, 3, time, size, size, dtype=torch.uint8),
            states=torch.zeros(windows, time, self.windows.recorded.state_dim),
            actions=torch.zeros(windows, time - 1, self.windows.action_dim),
            key=key,
            skipped=skipped,
            is_valid=False,
        )

    def _starts(self, num_frames: int, generator: torch.Generator) -> np.ndarray:
        misfit = explain_misfit(num_frames, 0.0, self.windows.span)
        if misfit:
            raise ClipTooShortError(misfit)
        num_starts, spacing = self.windows.num_starts(num_frames), self.windows.start_spacing
        if self.place == "middle":
            return np.full(self.windows_per_trajectory, (num_starts - 1) // 2 * spacing)
        count = (self.windows_per_trajectory,)
        return torch.randint(num_starts, count, generator=generator).numpy() * spacing


def recorded_specification(index: ShardIndex) -> TrajectorySpecification:
    """Returns what the columns of an index of trajectories mean.

    Raises:
        ShardError: if it is none of trajectories.
    """
    if index.specification is None:
        folder, _, _ = index.shards[0].path.rpartition("/")
        raise ShardError(f"{shown(folder)} holds no trajectories: no specification")
    return index.specification


def refuse_videos_without_actions(index: ShardIndex) -> None:
    """Raises if a sample has no states or actions."""
    for sample in index.samples if index.num_trajectories < index.num_samples else ():
        if not sample.is_trajectory:
            raise ShardError(
                f"{shown(sample.shard)}: sample '{sample.key}' has no {STATES} or no {ACTIONS}: "
                "these are shards of videos, trajectories are needed"
            )


def _refuse_misaligned(
    sample: Sample, num_frames: int, states: np.ndarray, actions: np.ndarray
) -> None:
    if len(states) != num_frames or len(actions) != num_frames - 1:
        raise ShardError(
            f"'{sample.key}': {num_frames} frames, {len(states)} states, {len(actions)} actions; "
            "T frames need T states and T - 1 actions"
        )
