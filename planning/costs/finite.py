"""Ruling out what cannot be compared."""

from __future__ import annotations

import torch
from torch import Tensor


def finite_costs(costs: Tensor) -> Tensor:
    """Returns costs (samples,) with +inf for all that are not finite, so that none is the best.

    Raises:
        FloatingPointError: if none is finite: any action chosen then would be meaningless.
    """
    is_finite = costs.isfinite()
    if not is_finite.any():
        if not (costs.isnan().any() or costs.isneginf().any()):
            raise FloatingPointError(
                f"all {costs.numel()} imagined costs are infinite: constraints rule out every "
                "sequence; loosen them, start outside of what they forbid, or imagine more"
            )
        raise FloatingPointError(
            f"all {costs.numel()} imagined costs are NaN or infinite; "
            "check the checkpoint and the camera frame"
        )
    return torch.where(is_finite, costs, torch.inf)
