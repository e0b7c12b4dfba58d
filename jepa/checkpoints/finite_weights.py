"""Weights that are numbers: what NaN or infinity is computed with becomes it, too."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def refuse_what_is_not_finite(weights: Mapping[str, object], *, source: str) -> None:
    """Raises if a weight is NaN or infinite.

    Raises:
        ValueError: naming the first.
    """
    for name, value in weights.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.is_meta:
            wrong = value.numel() - int(torch.isfinite(value).sum())
            if wrong:
                raise ValueError(f"{source}: {wrong} numbers of {name} are NaN or infinite")
