"""Tokens drawn one by one from all of space and time."""

from __future__ import annotations

import math

import torch
from torch import Generator

from jepa.masking.base import (
    Mask,
    MaskSampler,
    count_of,
    ids_where,
    is_lowest,
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
        num_hidden = count_of(self.target_fraction, tokens)
        numbers = torch.rand((batch, tokens), generator=generator, device=generator.device)
        is_hidden = is_lowest(numbers, num_hidden)
        return Mask(
            context_ids=ids_where(~is_hidden, tokens - num_hidden),
            target_ids=ids_where(is_hidden, num_hidden),
        )
