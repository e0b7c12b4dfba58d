"""The world model that a name stands for, wherever it comes from."""

from __future__ import annotations

from pathlib import Path

from jepa.checkpoints.pretrained import from_pretrained
from jepa.checkpoints.shipped import resolve_checkpoint
from jepa.models.world_model import LatentWorldModel


def load_model(name: str | Path, *, device: str = "cpu") -> LatentWorldModel:
    """Returns a world model, in evaluation mode.

    Args:
        name: a folder that we wrote, a run folder that holds one, the name of one that comes with a
            clone, an official V-JEPA 2-AC checkpoint, or a name on the Hugging Face hub.
        device: where it is to be.

    Raises:
        FileNotFoundError: if there is nothing of this name.
        ValueError: if it is no world model, or the device cannot be used.
    """
    model = from_pretrained(resolve_checkpoint(name))
    if not isinstance(model, LatentWorldModel):
        raise ValueError(
            f"{name} is an encoder, no world model: it imagines nothing that actions do; `jepa fit "
            "--config world_model/tiny.yaml` trains one on top of it"
        )
    try:
        return model.requires_grad_(False).eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device!r} cannot be used here: {error}") from error
