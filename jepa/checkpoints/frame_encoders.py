"""Frame encoders of world models by what a user writes: a checkpoint of any kind, or timm's."""

from __future__ import annotations

from pathlib import Path

from jepa.checkpoints.native import find_model
from jepa.checkpoints.pretrained import from_pretrained, is_huggingface
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.timm_encoder import TIMM_PREFIX, TimmSpec, timm_encoder_from


def load_frame_encoder(spec: str) -> FrameEncoder:
    """Returns a pretrained encoder, in evaluation mode.

    Args:
        spec: whatever `jepa.from_pretrained` takes (the folder of a model or of the run that made
            it, an official .pt, a folder of transformers or its name on the hub), of which the
            encoder is taken; or a model of timm, "timm:NAME", "timm:NAME@SIZE" or
            "timm:NAME@SIZE:FILE" (`TimmSpec`).

    Raises:
        OSError: if there is none, or its weights cannot be downloaded.
        ValueError: if the spec cannot be understood, or weights do not fit.
    """
    if spec.startswith(TIMM_PREFIX):
        return timm_encoder_from(spec)
    return from_pretrained(spec).encoder


def resolve_frame_encoder(spec: str) -> str:
    """Returns one name for what may be written in several ways, to tell whether two are the same.

    Args:
        spec: as for `load_frame_encoder`.

    Raises:
        OSError: if it is a folder without a model.
        ValueError: if the spec cannot be understood.
    """
    if spec.startswith(TIMM_PREFIX):
        return str(TimmSpec.parse(spec))
    path = Path(spec)
    if path.is_dir():
        return str(path.resolve() if is_huggingface(path) else find_model(path))
    return str(path.resolve()) if path.exists() else spec  # a name on the hub
