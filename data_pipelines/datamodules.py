"""Lightning's doors to the data: `ClipDataModule` and `TrajectoryDataModule`.

Which sample comes when is a function of seed and step, so equal runs see equal batches, with one
exception: a sample that cannot be read is replaced. What is damaged is so in every run. But where
shards lie far away and a store fails for longer than reads are tried again (`RetryPolicy`), a run
skips what another one gets; `skips` counts it, and `max_skipped_fraction: 0` stops the run.

The trainer must be made with `use_distributed_sampler=False`: the plan already gives every rank its
own part of each batch.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from typing import Any, Literal

from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from data_pipelines.action_windows import ActionMode, ActionReduction, ActionWindows
from data_pipelines.augmentation import ClipAugmentation
from data_pipelines.clip_dataset import (
    ClipDataset,
    ClipPlace,
    clip_sampler,
    refuse_set_without_fitting_video,
    refuse_set_without_usable_video,
)
from data_pipelines.clip_sampling import ClipPlacement, ClipSampling, ShortVideoPolicy
from data_pipelines.decoders.base import DecoderName
from data_pipelines.image_dataset import ImageDataset
from data_pipelines.plan import (
    EpochPlan,
    ResumableBatchSampler,
    steps_in_one_pass,
)
from data_pipelines.resumable_datamodule import ResumableDataModule, as_stream
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.streams import CountingLoader, ShardDataset
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import ColumnStatistics, TrajectorySpecification
from data_pipelines.trajectory_dataset import TrajectoryDataset, recorded_specification
from data_pipelines.transforms import (
    RandomResizedClipCrop,
    ResizeShortSideAndCenterCrop,
    ResizeWholeFrame,
    SquareAlongLongSide,
)
from data_pipelines.urls import shown
from data_pipelines.window_statistics import statistics_of_windows

logger = logging.getLogger(__name__)

# Settings that change no training sample, or that the fingerprint of the data holds anyway.
_ELSEWHERE = frozenset(
    "shards batch_size num_workers prefetch_factor steps_per_epoch samples_may_repeat val_shards "
    "val_batches temporal_views spatial_views cache_folder cache_gigabytes decoder "
    "isolate_decoding max_skipped_fraction seed allow_data_change".split()
)


class ShardDataModule(ResumableDataModule):
    """What clips, trajectories and images share: shards, and the plan over them.

    Args:
        shards: a folder of shards, a tar, or several of these.
        batch_size: clips, windows or images per process and step.
        clips_per_sample: of these, how many are taken from each opened sample.
        steps_per_epoch: None: as many as one pass over the samples fills. More than that repeats.
        samples_may_repeat: allow batches (of all processes) that are larger than one pass, so that
            each holds a sample more often than once.
        val_shards: validated on; None: no validation.
        val_batches: at most so many batches of one validation per process; None: one pass.
        cache_folder: on this machine's disk, keeps whole shards that lie far away; None: samples
            are read from there at each visit.
        cache_gigabytes: the cache's size; shards opened longest ago make room.
        options: see `ResumableDataModule`.

    Raises:
        ValueError: if a batch holds no whole number of samples.
    """

    def __init__(
        self,
        shards: str | list[str],
        *,
        batch_size: int = 8,
        clips_per_sample: int = 1,
        steps_per_epoch: int | None = None,
        samples_may_repeat: bool = False,
        val_shards: str | list[str] | None = None,
        val_batches: int | None = None,
        cache_folder: str | None = None,
        cache_gigabytes: float = 100.0,
        **options: Any,  # noqa: ANN401 - those of ResumableDataModule, which refuses all others
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        if batch_size < 1 or clips_per_sample < 1 or batch_size % clips_per_sample:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of the {clips_per_sample} clips taken "
                "from each sample"
            )
        self.shards = shards
        self.clips_per_sample = clips_per_sample
        self.steps_per_epoch = steps_per_epoch
        self.samples_may_repeat = samples_may_repeat
        self.val_shards = val_shards
        self.val_batches = val_batches
        self.cache_folder = cache_folder
        self.cache_gigabytes = cache_gigabytes

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
        self._count_left_out([self.index, *([self.val_index] if self.val_index else [])])

    def train_dataloader(self) -> CountingLoader:
        """Returns the loader of this rank, which starts at the trainer's step."""
        self._refuse_second_sampler()
        self._refuse_repeats()
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
        """Returns the validation loader: the same batches every time; no loader without shards.

        One pass sees every sample exactly once; `is_valid` of a batch says which places only fill
        it up.
        """
        if self.val_index is None:
            return []
        self._refuse_second_sampler()
        dataset = self.validation_dataset(self.val_index)
        return self._evaluation_loader(
            dataset,
            clips_per_sample=dataset.clips_per_sample,
            max_steps=self.val_batches,
            fingerprint=self.val_index.fingerprint,
        )

    def test_dataloader(self) -> CountingLoader | list[Any]:
        """Returns the validation loader."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        """Returns one pass over `shards`: every sample once, in order, as in validation."""
        self._refuse_second_sampler()
        dataset = self.validation_dataset(self.index)
        return as_stream(
            self._evaluation_loader(
                dataset,
                clips_per_sample=dataset.clips_per_sample,
                max_steps=None,
                fingerprint=self.index.fingerprint,
            )
        )

    def describe(self) -> str:
        """Returns one line for the start of a run."""
        index, ranks = self.index, self._world_size
        clips = index.num_samples * self.clips_per_sample
        damaged = f" ({len(index.damaged)} damaged ones left out)" if index.damaged else ""
        warning = "; warning: each batch holds samples more than once" if self._repeats else ""
        return (
            f"{len(index.shards)} shards, {index.num_samples} samples{damaged}, "
            f"{index.duration_seconds / 3600:.2f} hours; {clips} clips per pass, "
            f"{self.train_steps_per_epoch} steps per epoch, global batch "
            f"{self.batch_size * ranks} ({self.batch_size} x {ranks} ranks){warning}"
        )

    @property
    def _repeats(self) -> bool:
        """True where one pass over the samples does not fill a batch of all ranks."""
        clips_per_pass = self.index.num_samples * self.clips_per_sample
        return clips_per_pass < self.batch_size * self._world_size

    def _refuse_repeats(self) -> None:
        if self.samples_may_repeat or not self._repeats:
            return
        clips = f" x {self.clips_per_sample} clips" if self.clips_per_sample > 1 else ""
        raise ValueError(
            f"{self.index.num_samples} samples{clips} < global batch "
            f"{self.batch_size * self._world_size}: each batch would hold samples more than once; "
            "lower batch_size, add data, or allow it with samples_may_repeat and steps_per_epoch"
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

    def reader_of(self, index: ShardIndex) -> ShardReader:
        """Returns a reader of an index's shards, with a cache if a folder for one is given."""
        if self.cache_folder is None:
            return ShardReader()
        max_bytes = int(self.cache_gigabytes * 1e9)
        cache = ShardCache(self.cache_folder, max_bytes=max_bytes, shards=index.shards)
        return ShardReader(cache=cache)

    @property
    def _fingerprint(self) -> str:
        batch = self.batch_size * self._world_size
        return f"{self.index.fingerprint}-{self.seed}-{batch}-{self.sampling_fingerprint}"

    @property
    def sampling_fingerprint(self) -> str:
        """Returns a short hash of the settings that decide what is cut out of a sample."""
        settings = {name: value for name, value in self.hparams.items() if name not in _ELSEWHERE}
        return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]


class ClipDataModule(ShardDataModule):
    """Clips of videos for pretraining.

    Validation (on `val_shards`) and predictions (of `shards`) take `temporal_views` x
    `spatial_views` clips of each video, in batches of at most batch_size clips.

    Args:
        shards: a folder of shards, a tar, or several of these.
        clip_length_frames: frames per clip.
        frames_per_second: of the clip, by time stamps; None counts frames instead.
        frame_stride: every so many frames one is taken; above 1 only without frames_per_second.
        image_size: height and width of the clips, in pixels.
        clips_per_video: clips from each opened video, neighbours in the batch.
        clip_placement: where training clips start, see `ClipSampling`. "official" and
            "official_overlapping" take the very frames that the official loader takes, to reproduce
            old runs, see `OfficialClipSampling`.
        crop_scale: least and greatest part of the frame's area that a crop keeps.
        crop_aspect_ratio: least and greatest width / height of a crop.
        horizontal_flip: mirror half of the clips.
        augmentation: `torchvision.transforms.v2` on each training clip after its crop, one draw
            for all its frames.
        augment_on: "worker", the reading processes; or "device", after the transfer to the model's
            device: the same draws, worth it where the device is faster than the workers.
        short_video: "skip" replaces a video that is too short, "repeat_last" repeats its end,
            "loop" starts it over; "official" goes with the official placements.
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in child processes, see `ShardDataset`; None: where no checksum
            proves that the bytes are those that were packed.
        temporal_views: moments of each video, equally spaced; 1: its middle.
        spatial_views: square crops of each moment along the frame's long side; 1: its centre.
        options: see `ShardDataModule` and `ResumableDataModule`.

    Raises:
        ValueError: if settings are out of range, or exclude each other.
    """

    def __init__(
        self,
        shards: str | list[str],
        clip_length_frames: int = 16,
        *,
        frames_per_second: float | None = None,
        frame_stride: int = 1,
        image_size: int = 256,
        clips_per_video: int = 1,
        clip_placement: ClipPlacement = "random",
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_aspect_ratio: tuple[float, float] = (0.75, 1.35),
        horizontal_flip: bool = True,
        augmentation: list[Transform] | None = None,
        augment_on: Literal["worker", "device"] = "worker",
        short_video: ShortVideoPolicy = "skip",
        decoder: DecoderName = "decord",
        isolate_decoding: bool | None = None,
        temporal_views: int = 1,
        spatial_views: int = 1,
        **options: Any,  # noqa: ANN401 - those of ShardDataModule, which refuses all others
    ) -> None:
        super().__init__(shards, clips_per_sample=clips_per_video, **options)
        self.save_hyperparameters(logger=False, ignore=["augmentation"])  # data, not modules
        self.clip_length_frames = clip_length_frames
        self.frames_per_second = frames_per_second
        self.frame_stride = frame_stride
        self.clip_placement: ClipPlacement = clip_placement
        self.image_size = image_size
        self.temporal_views = temporal_views
        self.spatial_views = spatial_views
        self.short_video: ShortVideoPolicy = short_video
        self.augmentation = ClipAugmentation(augmentation) if augmentation else None
        self.augment_on: Literal["worker", "device"] = augment_on
        self.decoder: DecoderName = decoder
        self.isolate_decoding = isolate_decoding
        self.train_transform = RandomResizedClipCrop(
            image_size, scale=crop_scale, aspect_ratio=crop_aspect_ratio,
            horizontal_flip=horizontal_flip,
        )  # fmt: skip
        self._refuse_settings()

    def _refuse_settings(self) -> None:
        """Raises where settings exclude each other, before anything is read."""
        if self.temporal_views < 1 or self.spatial_views < 1:
            raise ValueError(
                f"temporal_views={self.temporal_views} and spatial_views={self.spatial_views} "
                "must be at least 1"
            )
        clip_sampler(
            self.clip_length_frames,
            frames_per_second=self.frames_per_second,
            frame_stride=self.frame_stride,
            placement=self.clip_placement,
            short_video=self.short_video,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Augments a training batch where it is now, if that is what augment_on says."""
        is_training = self.trainer is not None and self.trainer.training
        if self.augmentation is None or self.augment_on == "worker" or not is_training:
            return batch
        return batch._replace(video=self.augmentation.to_batch(batch.video, batch.seeds))

    def training_dataset(self, index: ShardIndex) -> ClipDataset:
        """Returns clips at `clip_placement`, randomly cropped."""
        return ClipDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=self.train_transform,
            frames_per_second=self.frames_per_second,
            frame_stride=self.frame_stride,
            clips_per_video=self.clips_per_sample,
            short_video=self.short_video,
            decoder=self.decoder,
            isolate_decoding=self.isolate_decoding,
            reader=self.reader_of(index),
            place=self.clip_placement,
            augmentation=self.augmentation if self.augment_on == "worker" else None,
        )

    def validation_dataset(self, index: ShardIndex) -> ClipDataset:
        """Returns equally spaced clips of each video, and crops of each: see `View`."""
        crops = [
            SquareAlongLongSide(self.image_size, place, self.spatial_views)
            for place in range(self.spatial_views)
        ]
        return ClipDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=crops,
            frames_per_second=self.frames_per_second,
            frame_stride=self.frame_stride,
            clips_per_video=self.temporal_views,
            short_video=self._short_video_in_evaluation,
            decoder=self.decoder,
            isolate_decoding=self.isolate_decoding,
            reader=self.reader_of(index),
            place="uniform",
            replace_unusable=False,
        )

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises if a sample is no video, or if none is long enough for one clip."""
        sampling = ClipSampling(
            self.clip_length_frames,
            frames_per_second=self.frames_per_second,
            frame_stride=self.frame_stride,
            short_video=self._short_video_in_evaluation,
        )
        for sample in index.samples if index.num_images else ():
            if sample.is_image:
                raise ShardError(
                    f"{shown(sample.shard)}: sample '{sample.key}' is no video; pictures go into "
                    "an ImageDataModule"
                )
        refuse_set_without_usable_video(index, sampling)

    @property
    def _short_video_in_evaluation(self) -> ShortVideoPolicy:
        return "repeat_last" if self.short_video == "official" else self.short_video


class TrajectoryDataModule(ShardDataModule):
    """Windows of trajectories for world models; validation takes each trajectory's middle window.

    Args:
        shards: a folder of trajectory shards, a tar, or several of these.
        clip_length_frames: frames per window.
        image_size: frames are resized to this height and width, never cropped.
        batch_size: windows per process and step.
        windows_per_trajectory: windows from each opened trajectory, neighbours in the batch.
        frame_stride: every so many recorded frames one is taken.
        frames_per_second: instead of a stride: the nearest recorded frames of these moments.
        actions: what leads from one taken frame to the next. "recorded": for frame_stride 1;
            "concatenate": the actions in between as one longer action; "repeat": one action that
            stands for all in between; "pose_difference": between the measured poses of the hand.
        action_reduction: with "repeat": "equal" (they must be), "mean", "sum" (for displacements)
            or "first".
        decoder: a name from `decoder_names`.
        isolate_decoding: decode in child processes, see `ShardDataset`; None: where no checksum
            proves that the bytes are those that were packed.
        options: see `ShardDataModule` and `ResumableDataModule`.
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
        frames_per_second: float | None = None,
        actions: ActionMode = "recorded",
        action_reduction: ActionReduction = "equal",
        decoder: DecoderName = "decord",
        isolate_decoding: bool | None = None,
        **options: Any,  # noqa: ANN401 - those of ShardDataModule, which refuses all others
    ) -> None:
        super().__init__(
            shards, batch_size=batch_size, clips_per_sample=windows_per_trajectory, **options
        )
        self.save_hyperparameters(logger=False)
        self._options = options
        self.clip_length_frames = clip_length_frames
        self.image_size = image_size
        self.frame_stride = frame_stride
        self.frames_per_second = frames_per_second
        self.actions: ActionMode = actions
        self.action_reduction: ActionReduction = action_reduction
        self.decoder: DecoderName = decoder
        self.isolate_decoding = isolate_decoding

    @cached_property
    def action_windows(self) -> ActionWindows:
        """Returns how windows are cut out of the training trajectories."""
        return self._windows(self.index)

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns names, units, bounds and rate of the windows' states and actions."""
        return self.action_windows.specification(self.statistics)

    @cached_property
    def statistics(self) -> ColumnStatistics:
        """Returns what the windows' states and actions are like: means, spread and extremes."""
        return statistics_of_windows(self.index, self.action_windows)

    def every_frame(self) -> TrajectoryDataModule:
        """Returns the same trajectories in windows that last as long, with every recorded frame.

        A batch has about as many frames, of no trajectory twice.
        """
        span, most = self.action_windows.span, sum(self.index.samples_per_shard) // self._world_size
        batch_size = min(self.batch_size * self.clip_length_frames // span, most)
        return TrajectoryDataModule(
            self.shards,
            span,
            image_size=self.image_size,
            batch_size=max(1, batch_size),
            decoder=self.decoder,
            isolate_decoding=self.isolate_decoding,
            **self._options,
        )

    def training_dataset(self, index: ShardIndex) -> TrajectoryDataset:
        """Returns windows with random starts."""
        return self._dataset(index, self.clips_per_sample, "random")

    def validation_dataset(self, index: ShardIndex) -> TrajectoryDataset:
        """Returns the middle window of each trajectory."""
        return self._dataset(index, 1, "middle")

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises if no trajectory is long enough for one window."""
        refuse_set_without_fitting_video(index, self._windows(index).span)

    def _windows(self, index: ShardIndex) -> ActionWindows:
        return ActionWindows(
            recorded_specification(index),
            self.clip_length_frames,
            mode=self.actions,
            frame_stride=self.frame_stride,
            frames_per_second=self.frames_per_second,
            reduction=self.action_reduction,
        )

    def _dataset(self, index: ShardIndex, windows: int, place: ClipPlace) -> TrajectoryDataset:
        return TrajectoryDataset(
            index,
            clip_length_frames=self.clip_length_frames,
            transform=ResizeWholeFrame(self.image_size),
            windows_per_trajectory=windows,
            frame_stride=self.frame_stride,
            frames_per_second=self.frames_per_second,
            actions=self.actions,
            action_reduction=self.action_reduction,
            decoder=self.decoder,
            isolate_decoding=self.isolate_decoding,
            reader=self.reader_of(index),
            place=place,
            replace_unusable=place == "random",
        )


class ImageDataModule(ShardDataModule):
    """Images as clips of one frame, for training beside videos (see `data_pipelines.mixture`).

    Validation takes a centre crop of each image.

    Args:
        shards: a folder of shards with images, a tar, or several of these.
        image_size: height and width of the crops, in pixels.
        crop_scale: least and greatest part of the picture's area that a crop keeps.
        crop_aspect_ratio: least and greatest width / height of a crop.
        horizontal_flip: mirror half of the images.
        options: see `ShardDataModule` and `ResumableDataModule`.
    """

    def __init__(
        self,
        shards: str | list[str],
        *,
        image_size: int = 256,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_aspect_ratio: tuple[float, float] = (0.75, 1.35),
        horizontal_flip: bool = True,
        **options: Any,  # noqa: ANN401 - those of ShardDataModule, which refuses all others
    ) -> None:
        super().__init__(shards, clips_per_sample=1, **options)
        self.save_hyperparameters(logger=False)
        self.image_size = image_size
        self.train_transform = RandomResizedClipCrop(
            image_size,
            scale=crop_scale,
            aspect_ratio=crop_aspect_ratio,
            horizontal_flip=horizontal_flip,
        )

    def training_dataset(self, index: ShardIndex) -> ImageDataset:
        """Returns random crops."""
        return ImageDataset(index, transform=self.train_transform, reader=self.reader_of(index))

    def validation_dataset(self, index: ShardIndex) -> ImageDataset:
        """Returns centre crops."""
        transform = ResizeShortSideAndCenterCrop(self.image_size)
        return ImageDataset(
            index, transform=transform, reader=self.reader_of(index), replace_unusable=False
        )

    def refuse_unfit(self, index: ShardIndex) -> None:
        """Raises `ShardError` if a sample is no image."""
        for sample in index.samples if index.num_images < index.num_samples else ():
            if not sample.is_image:
                raise ShardError(
                    f"{shown(sample.shard)}: sample '{sample.key}' is no image; videos go into a "
                    "ClipDataModule"
                )
