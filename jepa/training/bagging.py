"""Which member of an ensemble learns from which trajectory (bagging, Breiman 1996)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from jepa.masking import mask_generator


def draws(keys: Sequence[str], *, num_members: int, seed: int) -> Tensor:
    """Returns how often every member learns from every window: (members, windows) whole numbers.

    A draw with replacement from many trajectories takes each a Poisson(1) number of times (Oza and
    Russell 2001): about a third not at all. The number is drawn from a generator of the seed and
    the trajectory's key, so it is the same in every epoch, in every window and on every rank. A
    member that would have nothing to learn from in a batch takes all of it; so does every member of
    an ensemble whose data are a single trajectory that it did not draw.

    Args:
        keys: of the trajectories that windows are cut from.
        num_members: members of the ensemble.
        seed: any integer.
    """
    rate = torch.ones(num_members)
    columns = []
    for key in keys:
        generator = mask_generator(seed, zlib.crc32(key.encode()), 0, device=torch.device("cpu"))
        columns.append(torch.poisson(rate, generator=generator))
    counts = torch.stack(columns, 1).long()  # (members, windows)
    counts[counts.sum(1) == 0] = 1
    return counts


def drawn_rows(counts: Tensor) -> list[Tensor]:
    """Returns the rows that every member learns from, each as often as it was drawn."""
    rows = torch.arange(counts.shape[1])
    return [rows.repeat_interleave(count) for count in counts]
