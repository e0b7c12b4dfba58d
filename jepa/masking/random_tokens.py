"""Tokens drawn one by one from all of space and time."""

from __future__ import annotations

import math

from torch import Generator

from jepa.masking.base import (
    Mask,
    MaskSampler,
    draw_places,
    refuse_wrong_fraction,
    refuse_wrong_size,
)


class RandomTokens(MaskSampler):
    """Hides tokens drawn uniformly from space and time (arXiv:2205.09113, Sec. 3).

    Much of what is hidden is shown a moment earlier or later: a low share is an easy question.
    Every token is either context or target.

    Args:
        target_fraction: share of the tokens that is hidden, in (0, 1).

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, *, target_fraction: float = 0.9) -> None:
        refuse_wrong_fraction("target_fraction", target_fraction)
        self.target_fraction = target_fraction

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`."""
        refuse_wrong_size(batch, grid)
        tokens = math.prod(grid)
        if tokens < 2:
            raise ValueError(f"RandomTokens masks need at least 2 tokens, got grid {grid}")
        shown, hidden = draw_places(batch, tokens, self.target_fraction, generator=generator)
        return Mask(context_ids=shown, target_ids=hidden)
