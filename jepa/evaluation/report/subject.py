"""The checkpoint that a report is about."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jepa.checkpoints.native import (
    AnyModel,
    build_encoder,
    describe,
    untrained_world_model,
)
from jepa.checkpoints.pretrained import from_pretrained
from jepa.checkpoints.shipped import resolve_checkpoint
from jepa.evaluation.report.section import NotMeasured
from jepa.models import JepaModel, LatentWorldModel


@dataclass(frozen=True)
class Subject:
    """A checkpoint and its untrained twin.

    Attributes:
        name: as the user called it.
        model: in evaluation mode.
        untrained_encoder: the same architecture with fresh weights.
        config: what describes the architecture.
        fingerprint: a short hash of names and values of all weights.
    """

    name: str
    model: AnyModel
    untrained_encoder: Any
    config: dict[str, Any]
    fingerprint: str

    @property
    def kind(self) -> str:
        """What the checkpoint holds, in words."""
        if isinstance(self.model, LatentWorldModel):
            return "world model"
        return "encoder" if self.model.predictor is None else "encoder and masked predictor"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def image_size(self) -> int:
        """Height and width of the frames that the encoder is made for, in pixels."""
        encoder: Any = self.model.encoder
        return encoder.grid[1] * encoder.tubelet[1]

    @property
    def clip_length_frames(self) -> int:
        """Frames of the clips that the encoder is made for."""
        encoder: Any = self.model.encoder
        return encoder.grid[0] * encoder.tubelet[0]

    def world_model(self) -> LatentWorldModel:
        """Returns the model, if it imagines actions.

        Raises:
            NotMeasured: if it does not.
        """
        if not isinstance(self.model, LatentWorldModel):
            raise NotMeasured(f"this checkpoint is an {self.kind}: it imagines no actions")
        return self.model


def load_subject(
    checkpoint: str | Path, *, device: torch.device | str = "cpu", seed: int = 0
) -> Subject:
    """Reads a checkpoint of any kind that `jepa.from_pretrained` reads.

    Args:
        checkpoint: a folder, a file, a name on the hub, or that of a checkpoint of the clone.
        device: where to compute.
        seed: of the untrained twin's weights.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read.
    """
    model = from_pretrained(resolve_checkpoint(checkpoint)).requires_grad_(False)
    fingerprint, config = weights_fingerprint(model), describe(model)
    twin = untrained_encoder(model, seed=seed)
    return Subject(str(checkpoint), model.to(device), twin.to(device), config, fingerprint)


def untrained_encoder(model: AnyModel, *, seed: int) -> Any:  # noqa: ANN401 - a FrameEncoder
    """Returns an encoder of the same architecture with fresh weights, on the CPU."""
    if isinstance(model, LatentWorldModel):
        return untrained_world_model(model, seed=seed).encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(describe(model), device="cpu").requires_grad_(False).eval()


def weights_fingerprint(model: nn.Module) -> str:
    """Returns 16 hexadecimal digits: equal for equal names, types and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def is_masked_predictor(model: AnyModel) -> bool:
    """True if the model can be asked for latents of the future."""
    return isinstance(model, JepaModel) and model.predictor is not None
