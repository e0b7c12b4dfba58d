"""Imagined futures of held-out windows, and how far they are from what came true."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.world_model_card.held_out import WINDOWS_AT_ONCE, HeldOutWindows
from jepa.models.world_model import LatentWorldModel


@torch.inference_mode()
def imagine(
    model: LatentWorldModel, windows: HeldOutWindows, actions: Tensor | None = None
) -> Tensor:
    """Imagines actions from the start of every window, in parts.

    Args:
        model: imagines.
        windows: with what was seen and done before the start, if the model wants to know it.
        actions: (windows, any horizon, action_dim), raw units; None: what was done.

    Returns:
        (windows, horizon, tokens, dim), after each action.
    """
    actions = windows.future_actions if actions is None else actions
    parts = []
    for first in range(0, len(actions), WINDOWS_AT_ONCE):
        part = slice(first, first + WINDOWS_AT_ONCE)
        parts.append(_imagined(model, windows, part, actions[part]))
    return torch.cat(parts)


def _imagined(
    model: LatentWorldModel, windows: HeldOutWindows, part: slice, actions: Tensor
) -> Tensor:
    now = windows.num_past
    memory = None
    if now:
        past = (values[part, :now] for values in (windows.latents, windows.states, windows.actions))
        memory = model.remember(*past)
    start = windows.latents[part, now], windows.states[part, now]
    return model.rollout(*start, actions, memory=memory).tokens


@torch.inference_mode()
def predict_next(
    model: LatentWorldModel, latents: Tensor, states: Tensor, actions: Tensor
) -> Tensor:
    """Predicts every next frame from the true ones, in parts.

    Args:
        model: predicts.
        latents: (windows, time, tokens, dim).
        states: (windows, time, state_dim), normalised.
        actions: (windows, time, action_dim), raw units.

    Returns:
        (windows, time, tokens, dim) of frames 1 ... time.
    """
    parts = [
        model.dynamics(*part[:2], model.normalize_actions(part[2])).tokens
        for part in zip(
            *(values.split(WINDOWS_AT_ONCE) for values in (latents, states, actions)), strict=True
        )
    ]
    return torch.cat(parts)


def distances(model: LatentWorldModel, latents: Tensor, others: Tensor) -> np.ndarray:
    """Returns the model's own distance of latents (..., tokens, dim) to others: (...), float64."""
    with torch.inference_mode():
        return model.latents.distance(latents, others).double().cpu().numpy()


def rollout_errors(
    model: LatentWorldModel, windows: HeldOutWindows, actions: Tensor | None = None
) -> np.ndarray:
    """Returns how far imagined latents are from those that came true: (windows, horizon).

    Args:
        model: imagines, and measures the distance.
        windows: what came true.
        actions: see `imagine`; what is imagined is compared with what came true all the same.
    """
    return distances(model, imagine(model, windows, actions), windows.future_latents)


def copy_errors(model: LatentWorldModel, windows: HeldOutWindows) -> np.ndarray:
    """Returns how far the latents go from the start by themselves: (windows, horizon)."""
    return distances(model, windows.start_latents[:, None], windows.future_latents)
