"""Trajectories encoded once: with a frozen encoder, nothing is gained by encoding a frame twice.

For an encoder that learns they are decoded once, if the frames fit in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data_pipelines.batch import TrajectoryBatch
from jepa.checkpoints.frame_encoders import load_frame_encoder
from jepa.masking import mask_generator

logger = logging.getLogger(__name__)


class LatentBatch(NamedTuple):
    """Aligned windows of encoded frames, states and actions.

    Attributes:
        tokens: (batch, time, patches, encoder_dim), the encoder's patch tokens.
        states: (batch, time, state_dim), raw units.
        actions: (batch, time - 1, action_dim), raw units.
        keys: one trajectory key per window.
    """

    tokens: Tensor
    states: Tensor
    actions: Tensor
    keys: tuple[str, ...]


class LatentWindows(L.LightningDataModule):
    """Encodes whole trajectories at the start and serves random windows of them from memory.

    For data sets whose tokens fit in memory (frames x patches x dim x 4 bytes); larger ones are
    encoded as they stream, by giving the `TrajectoryDataModule` itself to the trainer.

    Args:
        trajectories: a `TrajectoryDataModule` whose windows are (nearly) whole trajectories; one
            pass over it is encoded.
        encoder: folder of a pretrained encoder, or of the run that made it; or a model of timm,
            timm:NAME@SIZE: see `jepa.checkpoints.frame_encoders`. None: nothing is encoded, and
            windows hold frames, for an encoder that learns.
        window_frames: frames of a window.
        batch_size: windows per process and step.
        steps_per_epoch: batches of an epoch.
        max_gigabytes: refuse to fill more memory than this.
        seed: of the windows.
    """

    def __init__(
        self,
        trajectories: L.LightningDataModule,
        encoder: str | None,
        *,
        window_frames: int = 8,
        batch_size: int = 64,
        steps_per_epoch: int = 1000,
        max_gigabytes: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if window_frames < 2 or batch_size < 1 or steps_per_epoch < 1:
            raise ValueError(
                "window_frames must be at least 2, batch_size and steps_per_epoch at least 1, got "
                f"{window_frames}, {batch_size} and {steps_per_epoch}"
            )
        self.trajectories: Any = trajectories
        self.encoder_folder = encoder
        self.window_frames, self.batch_size = window_frames, batch_size
        self.steps_per_epoch, self.seed = steps_per_epoch, seed
        self.max_gigabytes = max_gigabytes
        self.encoded: LatentBatch | TrajectoryBatch | None = None

    @property
    def statistics(self) -> Any:  # noqa: ANN401 - ColumnStatistics, which we may not import
        """Mean and standard deviation of states and actions."""
        return self.trajectories.statistics

    @property
    def specification(self) -> Any:  # noqa: ANN401 - TrajectorySpecification, which we may not import
        """Names, units, bounds and rate of states and actions."""
        return self.trajectories.specification

    @property
    def action_windows(self) -> Any:  # noqa: ANN401 - ActionWindows, which we may not import
        """How the actions of a window came about."""
        return self.trajectories.action_windows

    @property
    def skips(self) -> Any:  # noqa: ANN401 - SkipCounter, which we may not import
        """Skipped trajectories."""
        return self.trajectories.skips

    def every_frame(self) -> L.LightningDataModule:
        """Returns the trajectories with every recorded frame, not encoded.

        Raises:
            ValueError: if they come from elsewhere than from a `TrajectoryDataModule`.
        """
        if not hasattr(self.trajectories, "every_frame"):
            raise ValueError(
                "every recorded frame can be had of a TrajectoryDataModule, not of a "
                f"{type(self.trajectories).__name__}; leave fits_every_frame out"
            )
        return self.trajectories.every_frame()

    def describe(self) -> str:
        """Returns one line for the start of a run."""
        return (
            f"{self.trajectories.describe()}; {self._done} once, "
            f"then {self.steps_per_epoch} steps of "
            f"{self.batch_size} windows of {self.window_frames} frames"
        )

    def setup(self, stage: str | None = None) -> None:
        """Encodes one pass over the trajectories, each rank its own part."""
        if self.encoded is not None:
            return
        if self.trainer is not None:
            self.trajectories.trainer = self.trainer
        parts: list[Any] = []  # of one kind
        num_bytes, encode = 0, self._encoding()
        for batch in self.trajectories.train_dataloader():
            part = encode(batch)
            parts.append(part)
            num_bytes += part[0].nbytes
            self._refuse_overflow(num_bytes)
        self.encoded = type(parts[0])(
            *(torch.cat(columns) for columns in list(zip(*parts, strict=True))[:3]),
            keys=sum((part.keys for part in parts), ()),
        )
        self._refuse_short_trajectories()

    def train_dataloader(self) -> DataLoader:
        """Returns windows; batch k is a function of (seed, k, rank), so a resumed run goes on."""
        return _WindowLoader(_Windows(self), batch_size=None, sampler=_RestOfEpoch(self))

    def window_batch(self, step: int) -> LatentBatch | TrajectoryBatch:
        """Returns the batch of one step, drawn with replacement: all windows are equally likely."""
        whole = self.encoded
        assert whole is not None, "call setup() first"
        rank = self.trainer.global_rank if self.trainer is not None else 0
        generator = mask_generator(self.seed, step, rank, device=torch.device("cpu"))
        num_trajectories, num_frames = whole.states.shape[:2]
        size = (self.batch_size,)
        which = torch.randint(num_trajectories, size, generator=generator)
        last = num_frames - self.window_frames + 1
        frames = torch.randint(last, size, generator=generator)[:, None] + torch.arange(
            self.window_frames
        )
        states = whole.states[which[:, None], frames]
        actions = whole.actions[which[:, None], frames[:, :-1]]
        keys = tuple(whole.keys[index] for index in which.tolist())
        if isinstance(whole, LatentBatch):
            return LatentBatch(whole.tokens[which[:, None], frames], states, actions, keys)
        # Two advanced indices with a slice in between come first: (batch, time, 3, ...).
        pixels = whole.frames[which[:, None], :, frames].transpose(1, 2)
        return TrajectoryBatch(pixels, states, actions, keys)

    @property
    def _done(self) -> str:
        return "decoded" if self.encoder_folder is None else "encoded"

    def _encoding(self) -> Callable[[TrajectoryBatch], LatentBatch | TrajectoryBatch]:
        """Returns what becomes of a batch of whole trajectories."""
        if self.encoder_folder is None:
            return lambda batch: batch
        device = self.trainer.strategy.root_device if self.trainer is not None else "cpu"
        encoder = load_frame_encoder(self.encoder_folder).to(device)

        def encode(batch: TrajectoryBatch) -> LatentBatch:
            with torch.inference_mode():
                tokens = encoder.encode_frames(batch.frames.to(device))
            return LatentBatch(tokens.cpu().clone(), batch.states, batch.actions, batch.keys)

        return encode

    def batches_trained(self) -> int:
        """Batches this run has used, over all its resumes."""
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return progress.total.processed

    def _refuse_overflow(self, num_bytes: int) -> None:
        if num_bytes > self.max_gigabytes * 2**30:
            raise ValueError(
                f"the {self._done} trajectories need more than max_gigabytes={self.max_gigabytes}; "
                "train from the TrajectoryDataModule itself, which encodes as it streams"
            )

    def _refuse_short_trajectories(self) -> None:
        assert self.encoded is not None
        num_frames = self.encoded.states.shape[1]
        if num_frames < self.window_frames:
            raise ValueError(
                f"window_frames={self.window_frames} exceeds the {num_frames} frames that "
                "trajectories.clip_length_frames cuts; raise that or lower this"
            )


class _Windows(Dataset):
    """Batches by the number of their step."""

    def __init__(self, data: LatentWindows) -> None:
        self.data = data

    def __getitem__(self, step: int) -> LatentBatch | TrajectoryBatch:
        return self.data.window_batch(step)


class _RestOfEpoch(Sampler[int]):
    """The steps of the current epoch that are still to come."""

    def __init__(self, data: LatentWindows) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.steps_per_epoch

    def __iter__(self) -> Iterator[int]:
        first = self.data.batches_trained()
        yield from range(first, (first // len(self) + 1) * len(self))


class _WindowLoader(DataLoader):
    """Has a state to tell Lightning that an epoch can be resumed; the step says where it stood."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: see `LatentWindows.batches_trained`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores nothing."""
