"""AdamW, and which parameters it decays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adamw(
    modules: Iterable[nn.Module],
    *,
    learning_rate: float,
    weight_decay: float,
    gradients_are_scaled: bool = False,
) -> torch.optim.AdamW:
    """Returns AdamW that decays matrices and leaves biases and norms alone.

    Args:
        modules: their trainable parameters are optimised.
        learning_rate: peak rate, positive.
        weight_decay: decoupled decay of parameters with two dimensions or more.
        gradients_are_scaled: a loss scaler takes part (precision 16-mixed). A fused AdamW would
            unscale the gradients itself, after they were looked at and clipped; so it is not fused.

    Raises:
        ValueError: if nothing would be learned: the learning rate is not positive, or no parameter
            is trainable.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter is trainable: all of them are frozen")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = None if gradients_are_scaled else True  # None: one kernel for many parameters, on CUDA
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
