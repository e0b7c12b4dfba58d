"""What an action spec cannot be: limits that contradict each other, each refused in one line."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from planning.actions.limits import Gripper, NormLimit

if TYPE_CHECKING:
    from planning.actions.space import ActionSpec


def refuse_contradicting_limits(spec: ActionSpec) -> None:
    """Raises ValueError if no action, or no plan, could keep all that the spec says."""
    _refuse_wrong_bounds(spec)
    _refuse_wrong_joints(spec)
    _refuse_limits_of_choices(spec)
    _refuse_wrong_changes(spec)
    _refuse_wrong_norms(spec)
    _refuse_wrong_grippers(spec)
    _refuse_wrong_step_bounds(spec)


def _refuse_wrong_bounds(spec: ActionSpec) -> None:
    sizes = {len(spec.names), len(spec.units), len(spec.low), len(spec.high)}
    if len(sizes) != 1 or not spec.names:
        raise ValueError(
            f"names, units, low and high must have the same length >= 1, got "
            f"{len(spec.names)}, {len(spec.units)}, {len(spec.low)} and {len(spec.high)}"
        )
    for name, low, high in zip(spec.names, spec.low, spec.high, strict=True):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"action {name!r} needs finite bounds with low < high, got [{low}, {high}]"
            )
    if spec.kind not in ("continuous", "one_hot"):
        raise ValueError(f"kind must be 'continuous' or 'one_hot', got {spec.kind!r}")


def _refuse_wrong_joints(spec: ActionSpec) -> None:
    if spec.parts < 1:
        raise ValueError(f"parts must be at least 1, got {spec.parts}")
    if spec.one_step is None:
        return
    if spec.dim % spec.one_step.dim or spec.kind != spec.one_step.kind:
        raise ValueError(
            f"an action of {spec.dim} {spec.kind} dimensions cannot be several of "
            f"{spec.one_step.dim} {spec.one_step.kind} ones; let ActionSteps join them"
        )
    if spec.max_change is not None or spec.norm_limits or spec.grippers or spec.step_bounds:
        raise ValueError(
            "an action of several steps has the limits of its one_step; give max_change, "
            "norm_limits, grippers and step_bounds there"
        )


def _refuse_limits_of_choices(spec: ActionSpec) -> None:
    if spec.kind != "one_hot":
        return
    if set(spec.low) != {0.0} or set(spec.high) != {1.0}:
        raise ValueError(
            f"choices ({', '.join(spec.names)}) are 0 or 1, so low must be 0 and high 1, got "
            f"{spec.low} and {spec.high}"
        )
    if spec.max_change is not None or spec.norm_limits or spec.grippers or spec.step_bounds:
        raise ValueError(
            f"choices ({', '.join(spec.names)}) have no max_change, norm_limits, grippers or "
            "step_bounds; leave them out"
        )


def _refuse_wrong_changes(spec: ActionSpec) -> None:
    if spec.max_change is None:
        return
    if len(spec.max_change) != spec.dim or not all(change > 0 for change in spec.max_change):
        raise ValueError(
            f"max_change must be {spec.dim} numbers above 0 (infinity for no limit), got "
            f"{spec.max_change}"
        )


def _refuse_wrong_norms(spec: ActionSpec) -> None:
    limited = [name for limit in spec.norm_limits for name in limit.names]
    _refuse_unknown_names(spec, "norm_limits", limited)
    for limit in spec.norm_limits:
        _refuse_too_long(spec, limit, spec.low, spec.high, "low and high")


def _refuse_too_long(
    spec: ActionSpec,
    limit: NormLimit,
    low: tuple[float, ...],
    high: tuple[float, ...],
    bounds: str,
) -> None:
    """Raises ValueError if even the shortest action inside these bounds is too long."""
    part = [spec.names.index(name) for name in limit.names]
    shortest = np.clip(0.0, [low[column] for column in part], [high[column] for column in part])
    if (norm := float(np.linalg.norm(shortest, limit.order))) > limit.max_norm:
        raise ValueError(
            f"{bounds} leave no action whose {limit.names} have a norm of at most "
            f"{limit.max_norm}, the shortest has {norm:g}"
        )


def _refuse_wrong_grippers(spec: ActionSpec) -> None:
    normed = {name for limit in spec.norm_limits for name in limit.names}
    _refuse_unknown_names(spec, "grippers", [gripper.name for gripper in spec.grippers])
    for gripper in spec.grippers:
        column = spec.names.index(gripper.name)
        change = math.inf if spec.max_change is None else spec.max_change[column]
        if gripper.name in normed or change < math.inf:
            raise ValueError(
                f"gripper {gripper.name!r} jumps from value to value, so it can have no norm limit "
                f"and no max_change, got {change}; give it infinity, or no gripper"
            )
        low, high = spec.low[column], spec.high[column]
        threshold = gripper.threshold
        if gripper.way == "binary" and threshold is not None and not low < threshold <= high:
            raise ValueError(
                f"the threshold of gripper {gripper.name!r} must be in ({low}, {high}], got "
                f"{threshold}"
            )
        _refuse_snaps_outside(spec, gripper, low, high, "low and high")


def _refuse_snaps_outside(
    spec: ActionSpec, gripper: Gripper, low: float, high: float, bounds: str
) -> None:
    """Raises ValueError if a gripper's value inside these bounds snaps to one outside them."""
    column = spec.names.index(gripper.name)
    ends = torch.tensor([low, high], dtype=torch.float64)
    snapped = gripper.snapped(ends, spec.low[column], spec.high[column])
    if (snapped < low).any() or (snapped > high).any():
        raise ValueError(
            f"{bounds} of gripper {gripper.name!r} are [{low}, {high}], where it snaps to "
            f"{snapped.tolist()}, outside them"
        )


def _refuse_unknown_names(spec: ActionSpec, field: str, names: list[str]) -> None:
    unknown = [name for name in names if name not in spec.names]
    if unknown or len(set(names)) < len(names):
        raise ValueError(
            f"{field} must name dimensions of {spec.names}, each once, got {tuple(names)}"
        )


def _refuse_wrong_step_bounds(spec: ActionSpec) -> None:
    starts = [bounds.first_step for bounds in spec.step_bounds]
    if any(step < 0 for step in starts) or any(two <= one for one, two in pairwise(starts)):
        raise ValueError(f"first_step of step_bounds must increase from 0 on, got {starts}")
    for bounds in spec.step_bounds:
        place = f"step_bounds from step {bounds.first_step} on"
        if len(bounds.low) != spec.dim or len(bounds.high) != spec.dim:
            raise ValueError(
                f"{place} must have {spec.dim} values, got {len(bounds.low)} and {len(bounds.high)}"
            )
        rows = zip(spec.names, spec.low, bounds.low, bounds.high, spec.high, strict=True)
        for name, least, low, high, greatest in rows:
            if not least <= low <= high <= greatest:
                raise ValueError(
                    f"{place} must be inside [{least}, {greatest}] for {name!r}, "
                    f"got [{low}, {high}]"
                )
        for limit in spec.norm_limits:
            _refuse_too_long(spec, limit, bounds.low, bounds.high, place)
        for gripper in spec.grippers:
            column = spec.names.index(gripper.name)
            _refuse_snaps_outside(spec, gripper, bounds.low[column], bounds.high[column], place)
    if starts:
        low, high = spec.step_limits(starts[-1] + 1, like=torch.zeros(1, dtype=torch.float64))
        if (low > high).any():
            raise ValueError(
                f"with max_change={spec.max_change} no plan keeps step_bounds at step "
                f"{int((low > high).any(1).nonzero()[-1])} and the bounds after it"
            )
