"""AdamW groups and the learning-rate schedule, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


def adamw(
    modules: Iterable[nn.Module], *, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Returns AdamW that decays matrices and leaves biases and norms alone.

    Args:
        modules: their trainable parameters are optimised.
        learning_rate: peak rate, positive.
        weight_decay: decoupled decay of parameters with two dimensions or more.

    Raises:
        ValueError: if nothing would be learned: the learning rate is not positive, or no parameter
            is trainable.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter is trainable: all of them are frozen")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def warmup_cosine(
    optimizer: torch.optim.Optimizer,
    *,
    total_steps: float,
    warmup_fraction: float,
    final_fraction: float,
) -> dict[str, Any]:
    """Returns Lightning's description of a linear warm-up followed by a cosine, step by step.

    Unlike in the released recipes the cosine ends where training ends.

    Args:
        optimizer: its rates are scaled.
        total_steps: optimizer steps of the whole run, finite.
        warmup_fraction: share of them for the warm-up, in [0, 1).
        final_fraction: last rate over the peak rate, in [0, 1].

    Raises:
        ValueError: if a fraction is out of its range, or the run has no end.
    """
    if not math.isfinite(total_steps):
        raise ValueError("the learning rate falls until the run ends; set trainer.max_steps")
    if not 0 <= warmup_fraction < 1 or not 0 <= final_fraction <= 1:
        raise ValueError(
            "warmup_fraction must be in [0, 1) and final_fraction in [0, 1], got "
            f"{warmup_fraction} and {final_fraction}"
        )
    warmup_steps = round(warmup_fraction * total_steps)

    def scale(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return final_fraction + (1 - final_fraction) * cosine

    return {"scheduler": LambdaLR(optimizer, scale), "interval": "step"}
