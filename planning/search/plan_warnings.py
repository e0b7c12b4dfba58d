"""What a user should know of a plan before it is executed."""

from __future__ import annotations

from torch import Tensor

MAX_SATURATION = 0.5  # share of a plan's values at a bound
MAX_RULED_OUT = 0.5  # share of imagined sequences without a finite cost
MIN_CONTRAST = 1e-3  # spread of the costs of the first candidates, relative to their mean


def contrast(costs: Tensor) -> float | None:
    """Returns the standard deviation of the finite costs (samples,) over their mean size.

    None where fewer than two are finite. The first candidates of a search lie far apart: if even
    their costs are nearly equal, the planner cannot tell them apart.
    """
    finite = costs[costs.isfinite()].double()
    if len(finite) < 2:
        return None
    size = finite.abs().mean().item()
    return finite.std(correction=0).item() / size if size else 0.0


def plan_warnings(
    *, saturation: float, num_ruled_out: int, num_rollouts: int, first_contrast: float | None
) -> tuple[str, ...]:
    """Returns one line for each thing that is not as it should be.

    Args:
        saturation: share of the plan's values that lie at a bound.
        num_ruled_out: imagined sequences whose cost was NaN or infinite.
        num_rollouts: imagined sequences.
        first_contrast: of the costs of the first candidates, if it is known.
    """
    lines = []
    if saturation > MAX_SATURATION:
        lines.append(
            f"saturation: {saturation:.0%} of the plan lies at the bounds of the actions; the goal "
            "may be too far for this horizon"
        )
    if num_ruled_out > MAX_RULED_OUT * num_rollouts:
        lines.append(
            f"ruled out: {num_ruled_out} of {num_rollouts} candidates had a NaN or infinite cost; "
            "loosen the constraints, or check the world model"
        )
    if first_contrast is not None and first_contrast < MIN_CONTRAST:
        lines.append(
            f"flat landscape: the costs of the first candidates differ by {first_contrast:.2g} of "
            "their mean; the goal may be out of sight of this world model"
        )
    return tuple(lines)
