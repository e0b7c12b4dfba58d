"""Ruling out what cannot be compared, and refusing to choose where too little is left."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from planning.safety.safe_stop import NotFiniteStop

MIN_FINITE_SHARE = 1 / 16  # of the candidates: the best of fewer is no choice


def finite_costs(costs: Tensor) -> Tensor:
    """Returns costs (samples,) with +inf for all that are not finite, so that none is the best.

    Raises:
        NotFiniteStop: if none is finite: any action chosen then would be meaningless.
    """
    is_finite = costs.isfinite()
    if not is_finite.any():
        if not (costs.isnan().any() or costs.isneginf().any()):
            raise NotFiniteStop(
                f"all {costs.numel()} imagined costs are infinite: constraints rule out every "
                "sequence; loosen them, start outside of what they forbid, or imagine more"
            )
        raise NotFiniteStop(
            f"all {costs.numel()} imagined costs are NaN or infinite; "
            "check the checkpoint and the camera frame"
        )
    return torch.where(is_finite, costs, torch.inf)


def trusted_costs(costs: Tensor) -> Tensor:
    """Returns `finite_costs`, if enough of the candidates have one.

    Some may be ruled out, by constraints or because they cannot be imagined. Where hardly any is
    left, the best of them is no choice.

    Raises:
        NotFiniteStop: if fewer than one in 16 is finite.
    """
    ruled_in = finite_costs(costs)
    num_finite, count = int(costs.isfinite().sum()), costs.numel()
    if num_finite < MIN_FINITE_SHARE * count:
        raise NotFiniteStop(
            f"only {num_finite} of {count} imagined costs are finite, at least "
            f"{math.ceil(MIN_FINITE_SHARE * count)} must be; check the checkpoint and the camera "
            "frame, loosen the constraints, or imagine more"
        )
    return ruled_in
