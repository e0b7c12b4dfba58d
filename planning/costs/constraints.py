"""Where the robot may not be: regions to keep out of, a workspace to stay in.

They look at imagined states after each action, not in between: a region narrower than a step can
be jumped. Choose a margin of half a step at least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from planning.costs.imagined_states import StateUnits, imagined_states
from planning.costs.regions import Box, Region
from planning.types import Latent


@dataclass(frozen=True)
class KeepOut:
    """Rules out, or makes dear, rollouts that come into a region.

    Args:
        regions: to keep out of, at least one.
        columns: the columns of the state that they are in; None: all.
        units: regions are in raw units then; None: of normalised states.
        margin: clearance to keep, in the unit of the regions.
        is_hard: True: infinite if a step comes closer than the margin. False: how much closer than
            the margin it comes, mean over steps and summed over regions.

    Raises:
        ValueError: if an argument is out of range or does not fit the others.
    """

    regions: tuple[Region, ...]
    columns: tuple[int, ...] | None = None
    units: StateUnits | None = None
    margin: float = 0.0
    is_hard: bool = True

    def __post_init__(self) -> None:
        if not self.regions:
            raise ValueError("KeepOut needs at least one region")
        _refuse_other_margins(self.margin)
        for region in self.regions:
            _refuse_other_columns(region, self.columns)

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,); a state that is NaN makes NaN."""
        states = imagined_states(
            imagined, columns=self.columns, units=self.units, asked_by="KeepOut"
        )
        for region in self.regions:
            _refuse_other_width(region, states)
        clearances = torch.stack([region.signed_distance(states) for region in self.regions])
        return _penalty(clearances - self.margin, is_hard=self.is_hard)


@dataclass(frozen=True)
class Workspace:
    """Rules out, or makes dear, rollouts that leave a box.

    Args:
        box: to stay in.
        columns: see `KeepOut`, as the others.
        units: see `KeepOut`.
        margin: distance to keep from its walls.
        is_hard: see `KeepOut`.

    Raises:
        ValueError: if an argument is out of range or does not fit the others.
    """

    box: Box
    columns: tuple[int, ...] | None = None
    units: StateUnits | None = None
    margin: float = 0.0
    is_hard: bool = True

    def __post_init__(self) -> None:
        _refuse_other_margins(self.margin)
        _refuse_other_columns(self.box, self.columns)

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,); a state that is NaN makes NaN."""
        states = imagined_states(
            imagined, columns=self.columns, units=self.units, asked_by="Workspace"
        )
        _refuse_other_width(self.box, states)
        clearance = -self.box.signed_distance(states)[None]
        return _penalty(clearance - self.margin, is_hard=self.is_hard)


def _penalty(clearances: Tensor, *, is_hard: bool) -> Tensor:
    """Returns (samples,) of clearances (regions, samples, horizon), negative where too close."""
    if not is_hard:
        return (-clearances).clamp_min(0).mean(-1).sum(0)
    closest = clearances.amin((0, -1))
    # Nothing compares as less than NaN, and an unknown state is not a safe one: 0 * NaN stays NaN.
    return torch.where(closest < 0, torch.inf, 0 * clearances.sum((0, -1)))


def _refuse_other_margins(margin: float) -> None:
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin must be at least 0 and finite, got {margin}")


def _refuse_other_columns(region: Region, columns: tuple[int, ...] | None) -> None:
    if columns is not None and region.dim != len(columns):
        raise ValueError(f"{region} has {region.dim} columns, `columns` names {len(columns)}")


def _refuse_other_width(region: Region, states: Tensor) -> None:
    if region.dim != states.shape[-1]:
        raise ValueError(
            f"{region} has {region.dim} columns, the imagined states have {states.shape[-1]}; "
            "choose some by `columns`"
        )
