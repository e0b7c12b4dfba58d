"""Lightning's doors to the data: `ClipDataModule` and `TrajectoryDataModule`.

The trainer must be made with `use_distributed_sampler=False`: the plan already gives every rank its
own part of each batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader, IterableDataset

from data_pipelines.clip_dataset import (
    ClipDataset,
    ClipPlace,
    refuse_set_without_fitting_video,
)
from data_pipelines.clip_sampling import ShortVideoPolicy
from data_pipelines.plan import EpochPlan, ResumableBatchSampler, steps_in_one_pass
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader, ShardDataset
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import ColumnStatistics, TrajectorySpecification
from data_pipelines.trajectory_dataset import TrajectoryDataset
from data_pipelines.transforms import (
    RandomResizedClipCrop,
    ResizeShortSideAndCenterCrop,
    ResizeWholeFrame,
)

logger = logging.getLogger(__name__)


class ShardDataModule(L.LightningDataModule):
    """What clips and trajectories share: shards, the plan, loaders, and the count of skips.

    Attributes:
        skips: skipped samples of this process, as a `SkipCounter`.
    """

    def __init__(
        self,
        shards: str | list[str],
        *,
        batch_size: int,
        clips_per_sample: int,
        num_workers: int,
        prefetch_factor: int,
        steps_per_epoch: int | None,
        val_shards: str | list[str] | None,
        val_batches: int | None,
        max_skipped_fraction: float,
        seed: int,
    ) -> None:
        super().__init__()
        if batch_size < 1 or clips_per_sample < 1 or batch_size % clips_per_sample:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of the {clips_per_sample} clips taken "
                "from each sample"
            )
        self.shards = shards
        self.batch_size = batch_size
        self.clips_per_sample = clips_per_sample
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.steps_per_epoch = steps_per_epoch
        self.val_shards = val_shards
        self.val_batches = val_batches
        self.seed = seed
        self.skips = SkipCounter(max_skipped_fraction)

    @cached_property
    def index(self) -> ShardIndex:
        """Returns the index of the training shards."""
        index = ShardIndex.load(self.shards)
        self.refuse_unfit(index)
        return index

    @cached_property
    def val_index(self) -> ShardIndex | None:
        """Returns the index of the validation shards, None if there are none."""
        if self.val_shards is None:
            return None
        index = ShardIndex.load(self.val_shards)
        self.refuse_unfit(index)
        return index

    def setup(self, stage: str | None = None) -> None:
        """Reads the indices, so that faults show before the first step."""
        logger.info("%s", self.describe())
        _ = self.val_index

    def train_dataloader(self) -> CountingLoader:
        """Returns the loader of this rank, which starts at the trainer's step."""
        self._refuse_second_sampler()
        plan = EpochPlan(self.index.samples_per_shard, seed=self.seed)
        sampler = ResumableBatchSampler(
            plan,
            slots_per_batch=self.batch_size // self.clips_per_sample,
            steps_per_epoch=self.train_steps_per_epoch,
            rank=self._rank,
            world_size=self._world_size,
            first_step=self._batches_trained,
        )
        return self._loader(self.training_dataset(self.index), sampler, self._fingerprint)

    def val_dataloader(self) -> CountingLoader | list[Any]:
        """Returns the validation loader: the same batches every time; no loader without shards."""
        if self.val_index is None:
            return []
        self._refuse_second_sampler()
        global_batch = self.batch_size * self._world_size  # one clip per sample
        steps = self.val_batches or max(self.val_index.num_samples // global_batch, 1)
        sampler = ResumableBatchSampler(
            EpochPlan(self.val_index.samples_per_shard, seed=self.seed, shuffle=False),
            slots_per_batch=self.batch_size,
            steps_per_epoch=steps,
            rank=self._rank,
            world_size=self._world_size,
        )
        return self._loader(self.validation_dataset(self.val_index), sampler, "")

    def test_dataloader(self) -> CountingLoader | list[Any]:
        """Returns the validation loader."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        """Returns one pass over `shards`: the middle clip of every sample, once, in order.

        Batches have the greatest common divisor of batch_size and the number of samples.

        Raises:
            ValueError: with several processes, among which the samples need not divide.
        """
        if self._world_size > 1:
            raise ValueError("predict runs in one process: set trainer.devices to 1")
        per_step = math.gcd(self.batch_size, self.index.num_samples)
        sampler = ResumableBatchSampler(
            EpochPlan(self.index.samples_per_shard, seed=self.seed, shuffle=False),
            slots_per_batch=per_step,
            steps_per_epoch=self.index.num_samples // per_step,
        )
        loader = self._loader(self.validation_dataset(self.index), sampler, "")
        return DataLoader(_Batches(loader), batch_size=None)

    def describe(self) -> str:
        """Returns one line for the start of a run."""
        index, ranks = self.index, self._world_size
        clips = index.num_samples * self.clips_per_sample
        return (
            f"{len(index.shards)} shards, {index.num_samples} samples, "
            f"{index.duration_seconds / 3600:.2f} hours; {clips} clips per pass, "
            f"{self.train_steps_per_epoch} steps per epoch, global batch "
            f"{self.batch_size * ranks} ({self.batch_size} x {ranks} ranks)"
        )

    @property
    def train_steps_per_epoch(self) -> int:
        """Returns how many batches each rank takes per epoch.

        Raises:
            ValueError: if one pass does not fill a batch and steps_per_epoch is not set.
        """
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        return steps_in_one_pass(
            self.index.num_samples,
            self.clips_per_sample,
            batch_size=self.batch_size,
            world_size=self._world_size,
        )

    def training_dataset(self, index: ShardIndex) -> ShardDataset:
        """Returns the dataset to train on."""
        raise NotImplementedError

    def validation_dataset(self, index: ShardIndex) -> ShardDataset:
        """Returns the dataset to validate on."""
        raise NotImplementedError

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises if no sample of an index can be used."""
        raise NotImplementedError

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _fingerprint(self) -> str:
        return f"{self.index.fingerprint}-{self.seed}-{self.batch_size * self._world_size}"

    def _batches_trained(self) -> int:
        """Returns how many training batches this run has used, over all its epochs and resumes.

        Lightning restores its progress before it asks for the loader. Batches are counted, not
        optimizer steps, so gradients may be accumulated; and of the counts, `processed` is the one
        that is right wherever in a step the checkpoint was made.
        """
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return progress.total.processed

    def _refuse_second_sampler(self) -> None:
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if self._world_size > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ValueError(
                "make the trainer with use_distributed_sampler=False: the data plan already gives "
                "each rank its own samples"
            )

    def _loader(
        self, dataset: ShardDataset, sampler: ResumableBatchSampler, fingerprint: str
    ) -> CountingLoader:
        return CountingLoader(
            dataset,
            sampler,
            skips=self.skips,
            data_fingerprint=fingerprint,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=torch.cuda.is_available(),
        )


class _Batches(IterableDataset):
    """A loader's batches as a stream: Lightning leaves its sampler alone when it predicts."""

    def __init__(self, loader: CountingLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


class ClipDataModule(ShardDataModule):
    """Clips of videos for pretraining.

    Args:
        shards: a folder of shards, a tar, or several of these.
        clip_length_frames: frames per clip.
        frames_per_second: of the clip; None takes consecutive frames of the video.
        image_size: height and width of the clips, in pixels.
        batch_size: clips per process and step.
        num_workers: reading processes; 0 reads in the main process.
        steps_per_epoch: None: as many as one pass over the videos fills. More than that repeats.
        clips_per_video: clips from each opened video, neighbours in the batch.
        crop_scale: least and greatest part of the frame's area that a crop keeps.
        crop_aspect_ratio: least and greatest width / height of a crop.
        horizontal_flip: mirror half of the clips.
        short_video: "skip" replaces a video that is too short, "repeat_last" repeats its end.
        decoder: "decord" or "pyav".
        max_skipped_fraction: the run stops when more samples than this part are skipped.
        val_shards: validated on with the middle clip and a centre crop; None: no validation.
        val_batches: batches of one validation per process; None: one pass.
        seed: of the order and of all random cuts.
        prefetch_factor: batches that each worker prepares ahead.
    """

    def __init__(
        self,
        shards: str | list[str],
        clip_length_frames: int = 16,
        *,
        frames_per_second: float | None = None,
        image_size: int = 256,
        batch_size: int = 8,
        num_workers: int = 0,
        steps_per_epoch: int | None = None,
        clips_per_video: int = 1,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_aspect_ratio: tuple[float, float] = (0.75, 1.35),
        horizontal_flip: bool = True,
        short_video: ShortVideoPolicy = "skip",
        decoder: Literal["decord", "pyav"] = "decord",
        max_skipped_fraction: float = 0.1,
        val_shards: str | list[str] | None = None,
        val_batches: int | None = None,
        seed: int = 0,
        prefetch_factor: int = 2,
    ) -> None:
        super().__init__(
            shards,
            batch_size=batch_size,
            clips_per_sample=clips_per_video,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            steps_per_epoch=steps_per_epoch,
            val_shards=val_shards,
            val_batches=val_batches,
            max_skipped_fraction=max_skipped_fraction,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.clip_length_frames = clip_length_frames
        self.frames_per_second = frames_per_second
        self.image_size = image_size
        self.short_video: ShortVideoPolicy = short_video
        self.decoder: Literal["decord", "pyav"] = decoder
        self.train_transform = RandomResizedClipCrop(
            image_size,
            scale=crop_scale,
            aspect_ratio=crop_aspect_ratio,
            horizontal_flip=horizontal_flip,
        )

    def training_dataset(self, index: ShardIndex) -> ClipDataset:
        """Returns random clips, randomly cropped."""
        return ClipDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=self.train_transform,
            frames_per_second=self.frames_per_second,
            clips_per_video=self.clips_per_sample,
            short_video=self.short_video,
            decoder=self.decoder,
        )

    def validation_dataset(self, index: ShardIndex) -> ClipDataset:
        """Returns each video's middle clip, cropped to its centre."""
        return ClipDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=ResizeShortSideAndCenterCrop(self.image_size),
            frames_per_second=self.frames_per_second,
            short_video=self.short_video,
            decoder=self.decoder,
            place="middle",
        )

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises `NoUsableSampleError` if no video is long enough for one clip."""
        if self.short_video == "skip":
            refuse_set_without_fitting_video(
                index, self.clip_length_frames, frames_per_second=self.frames_per_second
            )


class TrajectoryDataModule(ShardDataModule):
    """Windows of trajectories for world models.

    Args:
        shards: a folder of trajectory shards, a tar, or several of these.
        clip_length_frames: frames per window.
        image_size: frames are resized to this height and width, never cropped.
        batch_size: windows per process and step.
        windows_per_trajectory: windows from each opened trajectory, neighbours in the batch.
        frame_stride: every so many recorded frames one is taken.
        concatenate_actions: must be True for a stride above 1; see `TrajectoryDataset`.
        num_workers: reading processes; 0 reads in the main process.
        steps_per_epoch: None: as many as one pass over the trajectories fills.
        decoder: "decord" or "pyav".
        max_skipped_fraction: the run stops when more samples than this part are skipped.
        val_shards: validated on with each trajectory's middle window; None: no validation.
        val_batches: batches of one validation per process; None: one pass.
        seed: of the order and of the windows' starts.
        prefetch_factor: batches that each worker prepares ahead.
    """

    def __init__(
        self,
        shards: str | list[str],
        clip_length_frames: int = 8,
        *,
        image_size: int = 64,
        batch_size: int = 32,
        windows_per_trajectory: int = 1,
        frame_stride: int = 1,
        concatenate_actions: bool = False,
        num_workers: int = 0,
        steps_per_epoch: int | None = None,
        decoder: Literal["decord", "pyav"] = "decord",
        max_skipped_fraction: float = 0.1,
        val_shards: str | list[str] | None = None,
        val_batches: int | None = None,
        seed: int = 0,
        prefetch_factor: int = 2,
    ) -> None:
        super().__init__(
            shards,
            batch_size=batch_size,
            clips_per_sample=windows_per_trajectory,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            steps_per_epoch=steps_per_epoch,
            val_shards=val_shards,
            val_batches=val_batches,
            max_skipped_fraction=max_skipped_fraction,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.clip_length_frames = clip_length_frames
        self.image_size = image_size
        self.frame_stride = frame_stride
        self.concatenate_actions = concatenate_actions
        self.decoder: Literal["decord", "pyav"] = decoder

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns names, units, bounds and rate of the states and actions."""
        if self.index.specification is None:
            raise ShardError(f"{self.shards} holds no trajectories: no specification")
        return self.index.specification

    @property
    def statistics(self) -> ColumnStatistics:
        """Returns mean and standard deviation of states and actions."""
        if self.index.statistics is None:
            raise ShardError(f"{self.shards} holds no trajectories: no statistics")
        return self.index.statistics

    def training_dataset(self, index: ShardIndex) -> TrajectoryDataset:
        """Returns windows with random starts."""
        return self._dataset(index, self.clips_per_sample, "random")

    def validation_dataset(self, index: ShardIndex) -> TrajectoryDataset:
        """Returns the middle window of each trajectory."""
        return self._dataset(index, 1, "middle")

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises if no trajectory is long enough for one window."""
        span = (self.clip_length_frames - 1) * self.frame_stride + 1
        refuse_set_without_fitting_video(index, span)

    def _dataset(self, index: ShardIndex, windows: int, place: ClipPlace) -> TrajectoryDataset:
        return TrajectoryDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=ResizeWholeFrame(self.image_size),
            windows_per_trajectory=windows,
            frame_stride=self.frame_stride,
            concatenate_actions=self.concatenate_actions,
            decoder=self.decoder,
            place=place,
        )
