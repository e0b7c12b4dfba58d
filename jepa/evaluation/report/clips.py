"""The held-out data that a report is made on."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipelines.batch import ClipBatch, TrajectoryBatch
from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.world_model_card.held_out import HeldOutWindows, load_windows
from jepa.models import LatentWorldModel

DATAMODULES = "data_pipelines.datamodules"  # by name: `jepa` does not import the pipelines
SHARD_INDEX = "data_pipelines.shard_index"


@dataclass(frozen=True)
class HeldOutClips:
    """One clip of each of some held-out videos, and what the shards say of themselves.

    Attributes:
        shards: where they are.
        batches: of clips, or of windows of trajectories.
        fingerprint: of the shards, equal for equal sets.
        num_samples: videos in the shards.
        labels: class of each video that was read, "" where the shards say none.
        specification: of trajectories: names, units and bounds of states and actions; else None.
        windows: of trajectories, encoded for a world model; None of a masked predictor, or of
            clips.
    """

    shards: str
    batches: Sequence[ClipBatch | TrajectoryBatch]
    fingerprint: str
    num_samples: int
    labels: tuple[str, ...]
    specification: Any = None
    windows: HeldOutWindows | None = None

    @cached_property
    def video(self) -> Tensor:
        """(clips, 3, time, height, width), uint8."""
        return torch.cat(
            [b.frames if isinstance(b, TrajectoryBatch) else b.video for b in self.batches]
        )

    @cached_property
    def frames(self) -> np.ndarray:
        """(clips, time, height, width, 3), uint8."""
        return self.video.permute(0, 2, 3, 4, 1).numpy()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the videos, one a clip."""
        return tuple(key for batch in self.batches for key in batch.keys)

    def of_world_model(self) -> HeldOutWindows:
        """Returns the encoded windows.

        Raises:
            NotMeasured: if there are none.
        """
        if self.windows is None:
            raise NotMeasured(f"{self.shards} holds no actions: give shards of trajectories")
        return self.windows


def held_out_clips(
    subject: Subject,
    shards: str,
    *,
    num_clips: int = 48,
    horizon: int = 8,
    frame_stride: int = 1,
    frames_per_second: float | None = None,
    seed: int = 0,
) -> HeldOutClips:
    """Reads clips as the checkpoint wants them: those of an encoder, or windows with actions.

    Args:
        subject: says sizes and lengths.
        shards: of videos or trajectories that were not trained on.
        num_clips: at most so many, each of another video.
        horizon: actions that a world model imagines.
        frame_stride: of an encoder's clips: every so many frames one is taken.
        frames_per_second: of an encoder's clips, instead of a stride.
        seed: of which moments are taken of trajectories.

    Raises:
        FileNotFoundError: if there are no shards.
        ValueError: if nothing can be read, or the actions are others than the model's.
    """
    if num_clips < 2:
        raise ValueError(f"--clips must be at least 2, got {num_clips}")
    index = importlib.import_module(SHARD_INDEX).ShardIndex.load(shards)
    windows = None
    if isinstance(subject.model, LatentWorldModel) and index.specification is not None:
        windows = load_windows(
            subject.model, shards, horizon=horizon, windows_per_episode=1,
            max_episodes=num_clips, seed=seed,
        )  # fmt: skip
    options = {"frame_stride": frame_stride, "frames_per_second": frames_per_second}
    batches = _batches(subject, shards, index, num_clips, options)
    labels = {sample.key: sample.label or "" for sample in index.samples}
    return HeldOutClips(
        shards=shards,
        batches=batches,
        fingerprint=index.fingerprint,
        num_samples=index.num_samples,
        labels=tuple(labels[key] for batch in batches for key in batch.keys),
        specification=index.specification,
        windows=windows,
    )


def _batches(
    subject: Subject,
    shards: str,
    index: Any,  # noqa: ANN401
    num_clips: int,
    options: dict[str, Any],
) -> list[Any]:
    """Returns the middle clip of the first videos, without padding and what cannot be read."""
    modules = importlib.import_module(DATAMODULES)
    sizes = {"image_size": subject.image_size, "batch_size": min(8, num_clips, index.num_samples)}
    length = max(2, subject.clip_length_frames)
    if index.specification is not None:
        data = modules.TrajectoryDataModule(shards, length, **sizes, **_recorded(options))
    else:
        data = modules.ClipDataModule(shards, length, short_video="repeat_last", **sizes, **options)
    batches, count = [], 0
    for batch in data.predict_dataloader():
        valid = batch.only_valid()
        if len(valid.keys):
            batches.append(valid)
            count += len(valid.keys)
        if count >= num_clips:
            break
    if count < 2:
        raise ValueError(f"{shards}: {count} videos can be read, a report needs at least 2")
    return batches


def _recorded(options: dict[str, Any]) -> dict[str, Any]:
    """Windows of several recorded frames a step need actions that stand for several."""
    if options["frame_stride"] == 1 and options["frames_per_second"] is None:
        return options
    return options | {"actions": "concatenate"}
