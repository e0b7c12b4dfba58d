"""Shards to batches: read by offset, decode, cut clips, transform, collate.

A sample that cannot be used is replaced by another one that the plan's slot decides, and travels
with the batch to the main process, where it is counted and named.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_pipelines.batch import ClipBatch, SkippedSample, TrajectoryBatch
from data_pipelines.clip_sampling import (
    ClipTooShortError,
    ShortVideoPolicy,
    clip_indices_at,
    explain_misfit,
    sample_clip_indices,
)
from data_pipelines.decoders.base import DecoderName, VideoDecoder, decoder_class
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.frames import DecodeError
from data_pipelines.plan import ResumableBatchSampler, Slot, mixed_seed
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.skips import NoUsableSampleError, SkipCounter, nothing_usable
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import ClipTransform

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 64
WORKER_TIMEOUT_SECONDS = 120
DECODING_TIMEOUT_SECONDS = 30.0  # of an isolated decoder, for one sample

ClipPlace = Literal["random", "middle"]


class ClipSample(NamedTuple):
    """All clips taken from one video.

    Attributes:
        video: (clips, 3, time, height, width), uint8.
        timestamps_seconds: (clips, time), float32.
        key: of the video.
        skipped: samples that failed before this one.
    """

    video: Tensor
    timestamps_seconds: Tensor
    key: str
    skipped: tuple[SkippedSample, ...]


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


class NothingUsable(NamedTuple):
    """What a worker sends instead of a batch when every sample failed."""

    message: str


SampleT = TypeVar("SampleT", ClipSample, TrajectorySample)


class ShardDataset(Dataset, ABC, Generic[SampleT]):
    """Samples by slot, with replacement of those that cannot be used."""

    def __init__(
        self, index: ShardIndex, *, decoder: DecoderName, isolate_decoding: bool = False
    ) -> None:
        self.samples = index.samples
        self.decoder = decoder
        self.isolate_decoding = isolate_decoding
        self.reader = ShardReader()
        self._process: DecodingProcess | None = None

    @abstractmethod
    def read(
        self, sample: Sample, generator: torch.Generator, skipped: tuple[SkippedSample, ...]
    ) -> SampleT:
        """Reads one sample; everything random comes from the generator."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, slot: Slot) -> SampleT | NothingUsable:
        skipped: list[SkippedSample] = []
        for sample_index in self._candidates(slot):
            sample = self.samples[sample_index]
            generator = torch.Generator().manual_seed(slot.seed)
            try:
                return self.read(sample, generator, tuple(skipped))
            except (DecodeError, ClipTooShortError, ShardError) as error:
                skipped.append(SkippedSample(sample.key, _reason(error)))
        return NothingUsable(nothing_usable(len(skipped), len(self.samples), skipped[0]))

    def _candidates(self, slot: Slot) -> Iterator[int]:
        """Yields the slot's own sample, then reserves in an order that the slot decides."""
        yield slot.sample_index
        generator = torch.Generator().manual_seed(mixed_seed(slot.seed, 1))
        order = torch.randperm(len(self.samples), generator=generator)
        reserves = order[order != slot.sample_index][:MAX_REPLACEMENTS]
        yield from reserves.tolist()

    def _open(self, sample: Sample) -> VideoDecoder:
        data = self.reader.read(sample, sample.video_extension)
        decoder = decoder_class(self.decoder)
        if not self.isolate_decoding:
            return decoder(data, sample.key)
        if self._process is None:
            self._process = DecodingProcess(decoder, timeout_seconds=DECODING_TIMEOUT_SECONDS)
        return self._process.open(data, sample.key)


class ClipDataset(ShardDataset[ClipSample]):
    """Clips of videos.

    All clips of one video come from one decoding of the frames they need, which shares the cost of
    opening it ("repeated sampling", MAE-ST, arXiv:2205.09113, Sec. 3).

    Args:
        index: the shards.
        clip_length_frames: frames per clip.
        transform: frames to the model's size.
        frames_per_second: of the clip; None takes consecutive frames.
        clips_per_video: how many clips each visit to a video gives.
        short_video: "skip" replaces a video that is too short, "repeat_last" repeats its end.
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in a child process, whose crash or hang costs one sample.
        place: "random" starts, or "middle" of the video (for validation).
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        clip_length_frames: int,
        transform: ClipTransform,
        frames_per_second: float | None = None,
        clips_per_video: int = 1,
        short_video: ShortVideoPolicy = "skip",
        decoder: DecoderName = "decord",
        isolate_decoding: bool = False,
        place: ClipPlace = "random",
    ) -> None:
        super().__init__(index, decoder=decoder, isolate_decoding=isolate_decoding)
        self.clip_length_frames = clip_length_frames
        self.transform = transform
        self.frames_per_second = frames_per_second
        self.clips_per_video = clips_per_video
        self.short_video: ShortVideoPolicy = short_video
        self.place = place

    def read(
        self, sample: Sample, generator: torch.Generator, skipped: tuple[SkippedSample, ...]
    ) -> ClipSample:
        """Decodes the union of the clips' frames once, then cuts and transforms each clip."""
        with self._open(sample) as video:
            timestamps_seconds = video.timestamps_seconds()
            clips = self._clip_indices(timestamps_seconds, generator)  # (clips, time)
            union, places = np.unique(clips, return_inverse=True)
            pixels = torch.from_numpy(video.frames_at(union).pixels)
        places = torch.from_numpy(places.reshape(clips.shape))  # (clips, time), into pixels
        return ClipSample(
            video=torch.stack([self.transform(pixels[place], generator) for place in places]),
            timestamps_seconds=torch.from_numpy(timestamps_seconds[clips]).float(),
            key=sample.key,
            skipped=skipped,
        )

    def _clip_indices(
        self, timestamps_seconds: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        if self.place == "middle":
            clip = clip_indices_at(
                timestamps_seconds,
                self.clip_length_frames,
                fraction=0.5,
                frames_per_second=self.frames_per_second,
                short_video=self.short_video,
            )
            return np.stack([clip] * self.clips_per_video)
        return np.stack(
            [
                sample_clip_indices(
                    timestamps_seconds,
                    self.clip_length_frames,
                    generator=generator,
                    frames_per_second=self.frames_per_second,
                    short_video=self.short_video,
                )
                for _ in range(self.clips_per_video)
            ]
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


class CountingLoader(DataLoader):
    """A DataLoader whose main process counts skipped samples and stops when nothing is usable.

    Its state holds only what the data is, to notice a resume with other data; where the run stands
    is known from the step (see `ResumableBatchSampler`).

    Args:
        dataset: clips or trajectories.
        batch_sampler: the plan's part for this rank.
        skips: where skipped samples are counted.
        data_fingerprint: of index and plan.
        num_workers: 0 reads in the main process.
        prefetch_factor: batches that each worker prepares ahead.
        pin_memory: copy batches into page-locked memory, for a faster way to a GPU.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_sampler: ResumableBatchSampler,
        *,
        skips: SkipCounter,
        data_fingerprint: str = "",
        num_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=collate,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            persistent_workers=num_workers > 0,
            timeout=WORKER_TIMEOUT_SECONDS if num_workers else 0,
            pin_memory=pin_memory,
        )
        self.skips = skips
        self.data_fingerprint = data_fingerprint
        self.samples_per_batch = batch_sampler.slots_per_batch

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if isinstance(batch, NothingUsable):
                raise NoUsableSampleError(batch.message)
            self.skips.count(self.samples_per_batch, batch.skipped)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Returns what the data is."""
        return {"data_fingerprint": self.data_fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Warns if the checkpoint was made with other data or another plan."""
        before = state.get("data_fingerprint")
        if before != self.data_fingerprint:
            logger.warning(
                "the data or its order changed since the checkpoint (%s before, %s now): samples "
                "will not follow as in an uninterrupted run",
                before,
                self.data_fingerprint,
            )


def collate(
    samples: Sequence[ClipSample | TrajectorySample | NothingUsable],
) -> ClipBatch | TrajectoryBatch | NothingUsable:
    """Joins samples to a batch; the clips of one video stay together."""
    for sample in samples:
        if isinstance(sample, NothingUsable):
            return sample
    if isinstance(samples[0], ClipSample):
        return collate_clips([s for s in samples if isinstance(s, ClipSample)])
    return collate_trajectories([s for s in samples if isinstance(s, TrajectorySample)])


def collate_clips(samples: Sequence[ClipSample]) -> ClipBatch:
    """Joins the clips of several videos: video is (batch, 3, time, height, width)."""
    return ClipBatch(
        video=torch.cat([sample.video for sample in samples]),
        timestamps_seconds=torch.cat([sample.timestamps_seconds for sample in samples]),
        keys=tuple(sample.key for sample in samples for _ in sample.video),
        skipped=tuple(skip for sample in samples for skip in sample.skipped),
    )


def collate_trajectories(samples: Sequence[TrajectorySample]) -> TrajectoryBatch:
    """Joins the windows of several trajectories."""
    return TrajectoryBatch(
        frames=torch.cat([sample.frames for sample in samples]),
        states=torch.cat([sample.states for sample in samples]),
        actions=torch.cat([sample.actions for sample in samples]),
        keys=tuple(sample.key for sample in samples for _ in sample.frames),
        skipped=tuple(skip for sample in samples for skip in sample.skipped),
    )


def refuse_set_without_fitting_video(
    index: ShardIndex, clip_length_frames: int, *, frames_per_second: float | None = None
) -> None:
    """Raises at once if the index says that no video is long enough for one clip.

    Raises:
        NoUsableSampleError: naming the first video and by how much it is too short.
    """
    first: SkippedSample | None = None
    for sample in index.samples:
        if sample.metadata is None:
            return  # its length is not known before it is decoded
        misfit = explain_misfit(
            sample.metadata.num_frames,
            sample.metadata.duration_seconds,
            clip_length_frames,
            frames_per_second=frames_per_second,
        )
        if misfit is None:
            return
        first = first or SkippedSample(sample.key, misfit)
    if first is not None:
        raise NoUsableSampleError(nothing_usable(index.num_samples, index.num_samples, first))


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


def _reason(error: Exception) -> str:
    """Returns why; of a video without its key, so that equal reasons count together."""
    return error.reason if isinstance(error, DecodeError) else str(error)
