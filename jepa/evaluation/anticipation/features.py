"""Tokens of many clips, computed once and kept: what the probes of every mode read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.anticipation.future_tokens import Anticipator

Mode = Literal["both", "encoder", "predictor"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class AnticipationFeatures:
    """Frozen features of clips, and the actions that come after them.

    Attributes:
        observed: (rows, tokens, dim), float16 or float32; may be a memory map.
        predicted: (rows, places, predicted dim), likewise; None if nothing was predicted.
        labels: (rows, 3), int64: indices of verb, noun and action.
        videos: (rows,), int64: which video a row is of.
    """

    observed: np.ndarray
    predicted: np.ndarray | None
    labels: np.ndarray
    videos: np.ndarray

    def __len__(self) -> int:
        return len(self.observed)

    def dim(self, mode: Mode) -> int:
        """Returns the width of a token.

        Raises:
            ValueError: if there is nothing predicted, or it cannot stand beside what is observed.
        """
        if mode == "encoder":
            return self.observed.shape[-1]
        if self.predicted is None:
            raise ValueError(f"mode {mode!r}: the model holds no predictor; use mode 'encoder'")
        widths = self.observed.shape[-1], self.predicted.shape[-1]
        if mode == "both" and widths[0] != widths[1]:
            raise ValueError(
                f"mode 'both': the encoder's tokens have {widths[0]} channels, those predicted "
                f"{widths[1]}, of another model's space; use 'encoder' or 'predictor'"
            )
        return widths[1]

    def tokens(self, mode: Mode, rows: np.ndarray) -> Tensor:
        """Returns float32 tokens of some rows: (rows, tokens, dim), observed ones first."""
        self.dim(mode)
        parts = [] if mode == "predictor" else [self.observed]
        parts += [] if mode == "encoder" or self.predicted is None else [self.predicted]
        arrays = [np.asarray(part[rows], dtype=np.float32) for part in parts]
        return torch.from_numpy(np.concatenate(arrays, axis=1))


@torch.inference_mode()
def encode_clips(
    anticipator: Anticipator,
    seen: Iterable[Any],
    labels: np.ndarray,
    *,
    num_clips: int,
    batch_size: int = 16,
    last_frame_only: bool = False,
    folder: Path | None = None,
) -> AnticipationFeatures:
    """Encodes clips, and predicts after each what it anticipates.

    Args:
        anticipator: in evaluation mode; its device is where it computes.
        seen: of `data_pipelines.observed_clips.SeenClip`.
        labels: (segments, 3), of the segments that the clips' rows count.
        num_clips: how many clips there are at most.
        batch_size: clips encoded at once.
        last_frame_only: show the last frame of the clip all along: no motion is to be seen.
        folder: keep float16 features in two files there, so that the memory need not hold them;
            None: float32 in memory.

    Raises:
        ValueError: if there is no clip, or as `Anticipator.forward`.
    """
    device = next(anticipator.parameters()).device
    arrays: list[np.ndarray] = []
    clips: list[Any] = []
    for batch in _batches(seen, batch_size):
        video = torch.stack([item.video for item in batch])
        if last_frame_only:
            video = video[:, :, -1:].expand(-1, -1, video.shape[2], -1, -1)
        seconds = torch.tensor([item.clip.anticipation_seconds for item in batch])
        tokens = anticipator(video.to(device), seconds.to(device))
        parts = [part.float().cpu().numpy() for part in tokens if part is not None]
        if not arrays:
            arrays = [_room(part, num_clips, index, folder) for index, part in enumerate(parts)]
        for array, part in zip(arrays, parts, strict=True):
            array[len(clips) : len(clips) + len(batch)] = part
        clips += [item.clip for item in batch]
    if not clips:
        raise ValueError("there are no clips to anticipate from")
    _, videos = np.unique([clip.segment.video_id for clip in clips], return_inverse=True)
    observed, *rest = (array[: len(clips)] for array in arrays)
    rows = np.array([clip.row for clip in clips])
    return AnticipationFeatures(observed, rest[0] if rest else None, labels[rows], videos)


def _room(part: np.ndarray, num_rows: int, index: int, folder: Path | None) -> np.ndarray:
    """Returns an array for all rows."""
    shape = (num_rows, *part.shape[1:])
    if folder is None:
        return np.empty(shape, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{('observed', 'predicted')[index]}.npy"
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


def _batches(items: Iterable[Any], batch_size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
