"""The rows of a contact sheet: clips chosen, decoded and cropped as in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from data_pipelines.clip_sampling import ClipSampling, ClipTooShortError
from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.images import decode_image
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import TrajectorySpecification
from data_pipelines.transforms import CropBox, RandomResizedClipCrop, random_crop_box

DECODING_TIMEOUT_SECONDS = 60.0
MOST_CROPS = 6  # as many colours can be told apart on a small frame


@dataclass(frozen=True)
class SheetSettings:
    """Which clips a sheet shows, and how much of them.

    Attributes:
        num_clips: rows, at most one for each sample.
        num_frames: shown of each clip, equally spaced.
        clip_length_frames: of a clip.
        frames_per_second: of a clip; None takes consecutive frames, as of trajectories always.
        image_size: of the crop when it is resized.
        crop_scale: least and greatest part of the frame's area that a crop keeps.
        crop_aspect_ratio: least and greatest width / height of a crop.
        horizontal_flip: mirror half of the crops.
        num_crops: drawn of each clip; the first is what training takes at this visit, the others
            are what it could take as well.
        seed: of the samples, clips and crops.
        decoder: what decodes, in a child process.
    """

    num_clips: int = 12
    num_frames: int = 8
    clip_length_frames: int = 16
    frames_per_second: float | None = None
    image_size: int = 256
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_aspect_ratio: tuple[float, float] = (0.75, 1.35)
    horizontal_flip: bool = True
    num_crops: int = 1
    seed: int = 0
    decoder: DecoderName = "decord"

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_frames", "clip_length_frames", "image_size", "num_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.num_crops > MOST_CROPS:
            raise ValueError(
                f"num_crops={self.num_crops} must be at most {MOST_CROPS}: more cannot be told "
                "apart; raise num_clips, or draw another sheet with another seed"
            )
        _ = self.transform  # refuses ranges without a meaning
        if self.frames_per_second is not None and not 0 < self.frames_per_second <= 1000:
            raise ValueError(f"frames_per_second={self.frames_per_second} must be in (0, 1000]")

    @cached_property
    def transform(self) -> RandomResizedClipCrop:
        """Returns what training does with a clip."""
        return RandomResizedClipCrop(
            self.image_size,
            scale=self.crop_scale,
            aspect_ratio=self.crop_aspect_ratio,
            horizontal_flip=self.horizontal_flip,
        )


class Crop(NamedTuple):
    """What training takes of the frames of a clip.

    Attributes:
        box: in the frame's own pixels.
        is_mirrored: whether it is flipped, left to right.
    """

    box: CropBox
    is_mirrored: bool = False


class Columns(NamedTuple):
    """States or actions of a clip.

    Attributes:
        title: "states" or "actions".
        names: of the columns.
        units: of the columns.
        values: (rows, columns), float32.
        times: when each row holds: (rows,), seconds.
    """

    title: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class Row:
    """One clip, or why there is none.

    Attributes:
        key: of the sample.
        label: its class, "" if it has none.
        metadata: None if the shard does not say.
        reason: why it cannot be used; None if it can.
        pixels: the frames shown, whole: (frames, height, width, 3), uint8.
        timestamps_seconds: of the frames shown: (frames,).
        span_seconds: first and last moment of the clip.
        crops: what training may take; none of trajectories, which are not cropped.
        columns: states and actions of a trajectory.
    """

    key: str
    label: str = ""
    metadata: VideoMetadata | None = None
    reason: str | None = None
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    timestamps_seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    span_seconds: tuple[float, float] = (0.0, 0.0)
    crops: tuple[Crop, ...] = ()
    columns: tuple[Columns, ...] = ()


class _Clip(NamedTuple):
    """Frames of a clip and what belongs to them.

    Attributes:
        pixels: (frames, height, width, 3).
        timestamps_seconds: (frames,).
        span_seconds: of the whole clip.
        columns: of a trajectory.
    """

    pixels: np.ndarray
    timestamps_seconds: np.ndarray
    span_seconds: tuple[float, float]
    columns: tuple[Columns, ...] = ()


def read_rows(index: ShardIndex, settings: SheetSettings) -> Iterator[Row]:
    """Yields a row for each of some random samples.

    Args:
        index: the shards.
        settings: how many, and what of them.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(index.num_samples, generator=generator)[: settings.num_clips].tolist()
    decoder, reader = decoder_class(settings.decoder), ShardReader()
    with DecodingProcess(decoder, timeout_seconds=DECODING_TIMEOUT_SECONDS) as process:
        rows = _RowReader(settings, reader, process, index.specification)
        for number in chosen:
            seed = int(torch.randint(2**31, (), generator=generator))
            yield rows.read(index.samples[number], torch.Generator().manual_seed(seed))
    reader.close()


class _RowReader:
    """Reads one sample after the other; a decoder that crashes costs one row."""

    def __init__(
        self,
        settings: SheetSettings,
        reader: ShardReader,
        process: DecodingProcess,
        specification: TrajectorySpecification | None,
    ) -> None:
        self.settings = settings
        self.reader = reader
        self.process = process
        self.specification = specification

    def read(self, sample: Sample, generator: torch.Generator) -> Row:
        """Returns the row of a random clip; draws as `ClipDataset` does: the clip, then crops.

        Args:
            sample: of video, trajectory or picture.
            generator: where the clip and the crops come from.
        """
        row = Row(sample.key, sample.label or "", sample.metadata)
        try:
            clip = self._image(sample) if sample.is_image else self._clip(sample, generator)
        except DecodeError as error:
            return replace(row, reason=error.reason)
        except (ClipTooShortError, ShardError, OSError) as error:
            return replace(row, reason=str(error))
        num_crops = 0 if clip.columns else self.settings.num_crops
        crops = tuple(self._crop(clip, generator) for _ in range(num_crops))
        return replace(row, crops=crops, **clip._asdict())

    def _crop(self, clip: _Clip, generator: torch.Generator) -> Crop:
        """Draws as `RandomResizedClipCrop` does: the box, then whether it is mirrored."""
        transform, (height, width) = self.settings.transform, clip.pixels.shape[1:3]
        box = random_crop_box(
            height,
            width,
            scale=transform.scale,
            aspect_ratio=transform.aspect_ratio,
            generator=generator,
        )
        is_mirrored = float(torch.rand((), generator=generator)) < 0.5
        return Crop(box, is_mirrored and transform.horizontal_flip)

    def _image(self, sample: Sample) -> _Clip:
        data = self.reader.read(sample, sample.image_extension)
        return _Clip(decode_image(data, sample.key)[None], np.zeros(1), (0.0, 0.0))

    def _clip(self, sample: Sample, generator: torch.Generator) -> _Clip:
        is_trajectory = sample.is_trajectory and self.specification is not None
        data = self.reader.read(sample, sample.video_extension)
        with self.process.open(data, sample.key) as video:
            times = video.timestamps_seconds()
            sampling = ClipSampling(
                self.settings.clip_length_frames,
                frames_per_second=None if is_trajectory else self.settings.frames_per_second,
            )
            (indices,) = sampling.indices(times, generator=generator)  # (time,)
            shown = indices[_spread(len(indices), self.settings.num_frames)]
            pixels = video.frames_at(shown).pixels
        span = (float(times[indices[0]]), float(times[indices[-1]]))
        columns = self._columns(sample, indices, times) if is_trajectory else ()
        return _Clip(pixels, times[shown], span, columns)

    def _columns(
        self, sample: Sample, indices: np.ndarray, times: np.ndarray
    ) -> tuple[Columns, ...]:
        specification = self.specification
        assert specification is not None
        states = self.reader.read_array(sample, STATES)  # (T, state_dim)
        actions = self.reader.read_array(sample, ACTIONS)  # (T - 1, action_dim)
        if len(states) != len(times) or len(actions) != len(times) - 1:
            raise ShardError(
                f"{len(times)} frames, {len(states)} states, {len(actions)} actions; T frames "
                "need T states and T - 1 actions"
            )
        names, units = specification.action_names, specification.action_units
        taken = indices[:-1]
        return (
            Columns(
                "states",
                specification.state_names,
                specification.state_units,
                states[indices],
                times[indices],
            ),
            Columns("actions", names, units, actions[taken], times[taken]),
        )


def _spread(length: int, count: int) -> np.ndarray:
    """Returns at most `count` indices below `length`, equally spaced, both ends among them."""
    return np.unique(np.rint(np.linspace(0, length - 1, count)).astype(int))
