"""Sums over the joined batch of all ranks, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """Returns how many processes train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Returns the sum of every rank's values, the same on all; on one rank the values themselves.

    The gradient is that of the sum of all ranks' losses. Where every rank has the same loss of the
    joined batch, averaging parameters' gradients over ranks, as DDP and FSDP do, gives exactly the
    gradient of that one loss.

    Args:
        values: of the same shape on every rank.
    """
    return values if num_ranks() == 1 else _SumOverRanks.apply(values)  # pyright: ignore


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """Returns the rows (rows, dim) of every rank, one rank after the other, the same on all.

    Gradient flows as through `sum_over_ranks`. Ranks may have different numbers of rows.
    """
    if num_ranks() == 1:
        return rows
    counts = torch.zeros(num_ranks(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    dist.all_reduce(counts)
    first = int(counts[: dist.get_rank()].sum())
    after = int(counts.sum()) - first - len(rows)
    return sum_over_ranks(torch.nn.functional.pad(rows, (0, 0, first, after)))


class _SumOverRanks(torch.autograd.Function):
    """An all-reduce in both directions; that of torch.distributed.nn is deprecated."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        """Sums values."""
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        """Sums gradients."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
