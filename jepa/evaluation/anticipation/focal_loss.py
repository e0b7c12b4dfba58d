"""The sigmoid focal loss (arXiv:1708.02002, Sec. 3): easy rows and classes weigh little."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ALPHA, GAMMA = 0.25, 2.0  # those of the paper, and of V-JEPA 2 on EK100


def sigmoid_focal_loss(
    logits: Tensor, labels: Tensor, *, alpha: float = ALPHA, gamma: float = GAMMA
) -> Tensor:
    """Returns the sum over rows and classes; every class is a yes or no of its own.

    Args:
        logits: (rows, classes).
        labels: (rows,), class indices.
        alpha: weight of the class that is right; the others have 1 - alpha. In [0, 1].
        gamma: how fast what is right already loses weight; 0 is the cross-entropy.
    """
    is_right = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)  # (rows, classes)
    entropy = F.binary_cross_entropy_with_logits(logits, is_right, reduction="none")
    probability = logits.sigmoid()
    wrongness = probability + is_right - 2 * probability * is_right  # 1 - that of the truth
    weight = alpha * is_right + (1 - alpha) * (1 - is_right)
    return (weight * wrongness**gamma * entropy).sum()
