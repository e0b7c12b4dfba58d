"""What actions cost by themselves: their size, and how abruptly they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from planning.types import Latent


@dataclass(frozen=True)
class ActionSize:
    """Mean square of the actions.

    Args:
        scale: (action_dim,), what counts as 1 in each dimension, for example half the range; None:
            the unit of the action.

    Raises:
        ValueError: if a scale is not positive.
    """

    scale: Tensor | None = None

    def __post_init__(self) -> None:
        _refuse_other_scales(self.scale)

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores actions (samples, horizon, action_dim): (samples,)."""
        return _scaled(actions, self.scale).square().mean((-2, -1))


@dataclass(frozen=True)
class ActionChange:
    """Mean square of the differences of neighbouring actions.

    Args:
        order: 1: of actions; 2: of their differences, the jerk where actions are velocities.
        executed: (any number, action_dim), the actions executed last, oldest first: the plan is to
            go on from them. None: there are none yet. Fixed for the life of the cost: where a cost
            is made once for a goal, limit the change with `ActionSpec.max_change` instead.
        scale: see `ActionSize`.

    Raises:
        ValueError: if an argument is out of range.
    """

    order: Literal[1, 2] = 1
    executed: Tensor | None = None
    scale: Tensor | None = None

    def __post_init__(self) -> None:
        _refuse_other_scales(self.scale)
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order}")
        if self.executed is not None and self.executed.ndim != 2:
            raise ValueError(
                f"executed must be (steps, action_dim), got {tuple(self.executed.shape)}"
            )

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores actions (samples, horizon, action_dim): (samples,); 0 if they are too few.

        Raises:
            ValueError: if the executed actions have another number of dimensions.
        """
        actions = _scaled(self._continued(actions), self.scale)
        changes = actions.diff(n=self.order, dim=-2)
        if changes.shape[-2] == 0:
            return 0 * actions.sum((-2, -1))  # keeps NaN, and a gradient
        return changes.square().mean((-2, -1))

    def _continued(self, actions: Tensor) -> Tensor:
        """Returns the executed actions that matter, and then the planned ones."""
        if self.executed is None:
            return actions
        if self.executed.shape[-1] != actions.shape[-1]:
            raise ValueError(
                f"the executed actions have {self.executed.shape[-1]} dimensions, the planned "
                f"ones {actions.shape[-1]}"
            )
        before = self.executed[-self.order :].to(actions)
        return torch.cat([before.expand(*actions.shape[:-2], -1, -1), actions], dim=-2)


def _scaled(actions: Tensor, scale: Tensor | None) -> Tensor:
    if scale is None:
        return actions
    if scale.shape[-1] != actions.shape[-1]:
        raise ValueError(
            f"the scale has {scale.shape[-1]} dimensions, the actions have {actions.shape[-1]}"
        )
    return actions / scale.to(actions)


def _refuse_other_scales(scale: Tensor | None) -> None:
    if scale is None:
        return
    if scale.ndim != 1 or not bool(((scale > 0) & scale.isfinite()).all()):
        raise ValueError(f"scale must be (action_dim,), positive and finite, got {scale.tolist()}")
