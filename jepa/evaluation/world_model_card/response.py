"""What each action dimension does to the imagined next latent, by finite differences.

Each dimension is moved by half a typical step up and down from what was done, and the two imagined
latents are compared: for a linear world that is its input matrix, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.rollouts import distances, imagine
from jepa.evaluation.world_model_card.verdict import mean_interval, ratio_interval
from jepa.models.world_model import LatentWorldModel

DEAD_SHARE = 0.01  # of a recorded step: a dimension that moves less is called dead


@dataclass(frozen=True, eq=False)
class ActionResponse:
    """How far the next latent moves with each action dimension.

    Attributes:
        names: (action_dim,).
        units: (action_dim,).
        action_std: (action_dim,), standard deviation in the windows.
        per_unit: (action_dim,), latent distance per unit of the action.
        share_of_step: (action_dim,), latent distance for one standard deviation of the recorded
            actions, over that of a recorded step.
        step_distance: latent distance of a recorded step: from the start to the next frame.
        matrix: (action_dim, tokens, dim), the mean change of the latent per unit.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    action_std: tuple[float, ...]
    per_unit: tuple[Interval, ...]
    share_of_step: tuple[Interval, ...]
    step_distance: Interval
    matrix: np.ndarray

    @property
    def dead(self) -> tuple[str, ...]:
        """Names of dimensions that move the latent by less than 1 % of a recorded step."""
        pairs = zip(self.names, self.share_of_step, strict=True)
        return tuple(name for name, share in pairs if share.high < DEAD_SHARE)


def measure_response(
    model: LatentWorldModel, windows: HeldOutWindows, *, seed: int = 0
) -> ActionResponse:
    """Moves each action dimension by itself at the start of every window.

    Args:
        model: imagines.
        windows: where from, and what typical actions are.
        seed: of the intervals.
    """
    first = windows.future_actions[:, :1]  # (windows, 1, action_dim)
    std = windows.actions.flatten(0, 1).std(0, correction=0)
    widths = torch.where(std > 0, std, model.action_std.to(std))
    step = windows.per_episode(
        distances(model, windows.start_latents, windows.future_latents[:, 0])
    )
    rows, per_unit, shares = [], [], []
    for index, width in enumerate(widths.tolist()):
        low, high = (_imagined_with(model, windows, first, index, s * width / 2) for s in (-1, 1))
        rows.append(((high - low) / width).double().mean(0).cpu().numpy())
        moved = windows.per_episode(distances(model, high, low))
        per_unit.append(mean_interval(moved / width, seed=seed))
        shares.append(ratio_interval(moved * float(std[index]) / width, step, seed=seed))
    return ActionResponse(
        names=windows.action_names,
        units=windows.action_units,
        action_std=tuple(std.tolist()),
        per_unit=tuple(per_unit),
        share_of_step=tuple(shares),
        step_distance=mean_interval(step, seed=seed),
        matrix=np.stack(rows),
    )


def _imagined_with(
    model: LatentWorldModel, windows: HeldOutWindows, first: Tensor, index: int, offset: float
) -> Tensor:
    """Returns the next latents (windows, tokens, dim), one action dimension being moved."""
    moved = first.clone()
    moved[..., index] += offset
    return imagine(model, windows, moved)[:, 0]
