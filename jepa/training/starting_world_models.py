"""A new run from a world model: fine-tuning on other recordings of the same states and actions.

Its scaling comes along, so that its weights mean what they meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa.checkpoints.native import load_world_model
from jepa.models.world_model import LatentWorldModel
from jepa.training.starting_weights import (
    flattened,
    refuse_another_architecture,
    refuse_other_weights,
)

# What the data say, and what a run may choose anew; all else is the architecture.
FREE_SETTINGS = ("scaling", "actions", "context_frames")
SAME_ACTIONS = ("names", "units", "frames_per_second", "mode", "reduction", "num_steps")


def read_world_model(path: Path, *, with_optimizer: bool) -> LatentWorldModel:
    """Reads a world model to start from.

    Args:
        path: its folder, that of the run that made it, or a name of `checkpoints/`.
        with_optimizer: was asked for; no such folder has one.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is something else, or an optimizer is asked for.
    """
    if with_optimizer or path.suffix == ".ckpt":
        raise ValueError(
            f"--from takes the folder of a world model here, without an optimizer, got {path}; a "
            "run of this recipe goes on by --ckpt_path"
        )
    return load_world_model(path)


def take_world_model(
    ours: LatentWorldModel, theirs: LatentWorldModel, *, source: str, trains_encoder: bool
) -> None:
    """Puts the weights of one world model into another of the same architecture.

    Args:
        ours: built with the scaling of theirs.
        theirs: where the weights are from.
        source: its name, for messages.
        trains_encoder: the encoder's weights come along; False: they must be the same already.

    Raises:
        ValueError: naming what differs: a setting, a weight, what an action means, the encoder.
    """
    refuse_another_architecture(_described(theirs), _described(ours), source=source, is_start=True)
    _refuse_other_actions(ours, theirs, source=source)
    weights = theirs.state_dict()
    refuse_other_weights(weights, ours.state_dict(), source=source)
    if not trains_encoder:
        own = {k: v for k, v in ours.state_dict().items() if k.startswith("encoder.")}
        changed = [name for name, value in own.items() if not _is_same(value, weights[name])]
        if changed:
            raise ValueError(
                f"{source} sees through another encoder than the config's: {len(changed)} of its "
                f"weights differ, {changed[0]} for one; give model.encoder the one it has"
            )
    ours.load_state_dict(weights)


def _is_same(own: Tensor, value: Tensor) -> bool:
    """Compares where and as exactly as this run has it."""
    return torch.equal(own, value.to(own))


def _described(model: LatentWorldModel) -> Mapping[str, Mapping[str, Any]]:
    latents: Any = model.latents
    settings = {k: v for k, v in model.config.items() if k not in FREE_SETTINGS}
    return {
        "encoder": model.encoder.config,
        "latents": {"name": type(latents).__name__, **latents.config},
        "world_model": flattened(settings),
    }


def _refuse_other_actions(ours: LatentWorldModel, theirs: LatentWorldModel, *, source: str) -> None:
    if ours.actions is None or theirs.actions is None:  # nobody says what theirs mean
        return
    for name in SAME_ACTIONS:
        found, wanted = getattr(theirs.actions, name), getattr(ours.actions, name)
        if found != wanted:
            raise ValueError(f"{source} has actions.{name}={found}, the data {name}={wanted}")
