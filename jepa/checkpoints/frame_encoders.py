"""Frame encoders of world models by what a user writes: a folder of ours, or a model of timm."""

from __future__ import annotations

from jepa.checkpoints.native import find_encoder, load_encoder
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.timm_encoder import TIMM_PREFIX, TimmSpec, timm_encoder_from


def load_frame_encoder(spec: str) -> FrameEncoder:
    """Returns a pretrained encoder, in evaluation mode.

    Args:
        spec: folder of a pretrained encoder, or of the run that made it; or a model of timm,
            "timm:NAME", "timm:NAME@SIZE" or "timm:NAME@SIZE:FILE" (`TimmSpec`).

    Raises:
        OSError: if there is none, or its weights cannot be downloaded.
        ValueError: if the spec cannot be understood, or weights do not fit.
    """
    if spec.startswith(TIMM_PREFIX):
        return timm_encoder_from(spec)
    return load_encoder(spec)


def resolve_frame_encoder(spec: str) -> str:
    """Returns one name for what may be written in several ways, to tell whether two are the same.

    Args:
        spec: as for `load_frame_encoder`.

    Raises:
        OSError: if it is a folder without an encoder.
        ValueError: if the spec cannot be understood.
    """
    if spec.startswith(TIMM_PREFIX):
        return str(TimmSpec.parse(spec))
    return str(find_encoder(spec))
