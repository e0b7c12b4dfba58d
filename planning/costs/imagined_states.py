"""The imagined proprioceptive state: which columns, in which units."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from planning.types import Latent


class StateUnits(NamedTuple):
    """How normalised states become states in the units of the robot.

    Attributes:
        mean: (state_dim,), what became 0.
        std: (state_dim,), what became 1.
    """

    mean: Tensor
    std: Tensor

    def raw(self, states: Tensor) -> Tensor:
        """Returns normalised states (..., state_dim) in raw units."""
        return states * self.std.to(states) + self.mean.to(states)

    def normalized(self, states: Tensor) -> Tensor:
        """Returns states (..., state_dim) in raw units normalised; the inverse of `raw`."""
        return (states - self.mean.to(states)) / self.std.to(states)


def imagined_states(
    imagined: Latent,
    *,
    columns: tuple[int, ...] | None,
    units: StateUnits | None,
    asked_by: str,
) -> Tensor:
    """Returns the columns of imagined states: (samples, horizon, columns).

    Args:
        imagined: rollouts.
        columns: which; None: all.
        units: turns them into raw units; None leaves them normalised.
        asked_by: the cost, for errors.

    Raises:
        ValueError: if nothing is imagined of the state, or not so many columns.
    """
    state = imagined.state
    if state is None or state.shape[-1] == 0:
        raise ValueError(
            f"{asked_by} needs imagined states, but the world model imagines latents only; train "
            "it with uses_state=True"
        )
    state_dim = state.shape[-1]
    if units is not None and units.mean.shape != (state_dim,):
        raise ValueError(
            f"{asked_by} has units of {units.mean.shape[-1]} columns, the imagined states have "
            f"{state_dim}"
        )
    state = state if units is None else units.raw(state)
    if columns is None:
        return state
    if not columns or not all(0 <= column < state_dim for column in columns):
        raise ValueError(
            f"{asked_by} asks for state columns {columns}, there are 0 to {state_dim - 1}"
        )
    return state[..., torch.tensor(columns, device=state.device)]
