"""A new run from the weights of an earlier one: a cooldown stage, or other data.

Nothing is left out in silence: weights that are missing, too many or of another shape, and settings
that would make another model of the same weights, are refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepa.checkpoint_file import check_checkpoint
from jepa.checkpoints.native import find_encoder, load_model
from jepa.models import JepaModel

logger = logging.getLogger(__name__)

# What an encoder is made for, but not made of: a cooldown has larger clips.
FREE_SETTINGS = ("image_size", "clip_length_frames")
Architecture = Mapping[str, Mapping[str, Any]]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a training checkpoint to start from; its tensors are mapped, and no code in it is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    check_checkpoint(path, resumes=False, option="--from")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def read_model(folder: Path, ours: Architecture) -> JepaModel:
    """Reads a model folder, or that of the run that made it, to start from.

    Args:
        folder: see `jepa.checkpoints.native.load_model`.
        ours: settings of the configured encoder and predictor.

    Raises:
        FileNotFoundError: there is no encoder.
        ValueError: if it is another model; naming the first setting that differs.
    """
    place = find_encoder(folder)
    model = load_model(place)
    assert isinstance(model, JepaModel)
    theirs = {"encoder": model.encoder.config}
    if model.predictor is not None:
        theirs["predictor"] = model.predictor.config
    refuse_another_architecture(theirs, ours, source=str(place), may_differ=True)
    return model


def warn_of_untrained(parts: Sequence[nn.Module], source: Path) -> None:
    """Says which trained parts of a model the weights bring nothing for."""
    names = [type(part).__name__ for part in parts if any(True for _ in part.parameters())]
    if names:
        logger.warning("%s has no weights for %s: untrained", source, ", ".join(names))


def refuse_another_architecture(
    theirs: Architecture | None,
    ours: Architecture,
    *,
    source: str,
    may_differ: bool = False,
    is_start: bool = False,
) -> None:
    """Raises if the weights are those of a model with other settings.

    Args:
        theirs: settings of the weights by part; None if they do not say (older checkpoints).
        ours: settings of the configured model.
        source: of the weights, for the message.
        may_differ: let the size of clips be another one.
        is_start: a new run starts from the weights already, so that is no way out.

    Raises:
        ValueError: naming the first setting that differs.
    """
    for part, settings in (theirs or {}).items():
        for name in dict.fromkeys((*settings, *ours.get(part, {}))):
            found, wanted = settings.get(name), ours.get(part, {}).get(name)
            is_free = part == "encoder" and name in FREE_SETTINGS
            if _as_lists(found) == _as_lists(wanted) or (may_differ and is_free):
                continue
            way_out = (
                "--from starts a new run from its weights"
                if is_free and not is_start
                else "the config has to describe the same model"
            )
            raise ValueError(
                f"{source} has {part}.{name}={found}, the config {part}.{name}={wanted}: {way_out}"
            )


def refuse_other_weights(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, source: str
) -> None:
    """Raises if names or shapes of weights differ.

    Raises:
        ValueError: naming the first of each kind.
    """
    missing, unexpected = sorted(ours.keys() - theirs), sorted(theirs.keys() - ours)
    if missing or unexpected:
        raise ValueError(
            f"{source} does not hold the weights of this model: {len(missing)} missing "
            f"{missing[:2]}, {len(unexpected)} unexpected {unexpected[:2]}"
        )
    for name, value in ours.items():
        if theirs[name].shape != value.shape:
            raise ValueError(
                f"{source} does not hold the weights of this model: {name} is "
                f"{tuple(theirs[name].shape)}, not {tuple(value.shape)}"
            )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns settings of settings as one level, named by their way: {"trunk.dim": 96}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _as_lists(value: object) -> object:
    """Tuples come back from files as lists."""
    return [_as_lists(one) for one in value] if isinstance(value, (list, tuple)) else value
