"""A learning rate found at one batch size, for another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRateScaling:
    """Scales the learning rate with the global batch: batch x ranks x accumulated batches.

    Args:
        reference_batch_size: global batch for which the configured learning rate is meant.
        rule: linear (Goyal et al., arXiv:1706.02677) or sqrt, which is the usual one for Adam.
    """

    reference_batch_size: int
    rule: Literal["linear", "sqrt"] = "sqrt"

    def __post_init__(self) -> None:
        if self.reference_batch_size < 1:
            raise ValueError(
                f"reference_batch_size must be at least 1, got {self.reference_batch_size}"
            )

    def factor(self, global_batch_size: int) -> float:
        """Returns what the learning rate is multiplied with."""
        ratio = global_batch_size / self.reference_batch_size
        return ratio if self.rule == "linear" else math.sqrt(ratio)
