"""Rotary positions in three dimensions: time, height, width (V-JEPA 2, arXiv:2506.09985, Sec. 2.1).

A head's channels are split into [time | height | width | rest]; each part is rotated by its own
coordinate, the rest is left alone. Pairs are adjacent channels with one frequency a pair (the
interleaved form of V-JEPA 2.1; the tiled tables of the V-JEPA 2 release are not a rotation and
are needed for its weights only).
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0


def axis_dim(head_dim: int) -> int:
    """Returns how many channels each of the three axes rotates; the rest of the head stays put.

    Args:
        head_dim: channels of one attention head.

    Raises:
        ValueError: if head_dim is odd or smaller than 12.
    """
    if head_dim % 2 or head_dim < 12:
        raise ValueError(f"head_dim must be even and at least 12, got {head_dim}")
    return 2 * ((head_dim // 3) // 2)


def rope_angles(coordinates: Tensor, *, head_dim: int) -> Tensor:
    """Returns the rotation angle of every channel pair.

    Args:
        coordinates: (..., tokens, 3), time, height and width of each token, in tokens; 0 on an axis
            that should not rotate.
        head_dim: channels of one attention head, even and at least 12.

    Returns:
        (..., tokens, head_dim // 2) angles in radians: [time | height | width | zeros].

    Raises:
        ValueError: if head_dim or the layout of the coordinates is another one.
    """
    if coordinates.ndim < 2 or coordinates.shape[-1] != 3:
        raise ValueError(f"coordinates must be (..., tokens, 3), got {tuple(coordinates.shape)}")
    pairs = axis_dim(head_dim) // 2
    index = torch.arange(pairs, device=coordinates.device, dtype=torch.float32)
    frequencies = BASE ** (-index / pairs)
    angles = coordinates.float().unsqueeze(-1) * frequencies  # (..., tokens, 3, pairs)
    angles = angles.flatten(-2)  # (..., tokens, 3 * pairs)
    rest = head_dim // 2 - 3 * pairs
    return torch.nn.functional.pad(angles, (0, rest))


def rotation(angles: Tensor) -> Tensor:
    """Returns cosine and sine of angles (..., tokens, pairs): (2, ..., 1, tokens, pairs).

    The new axis is that of the heads. Computed once per forward pass, for all layers and heads.
    """
    return torch.stack((angles.cos(), angles.sin())).unsqueeze(-3)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates adjacent channel pairs of queries or keys.

    Args:
        x: (batch, heads, tokens, head_dim).
        table: from `rotation`, broadcastable to (2, batch, heads, tokens, head_dim // 2).

    Returns:
        The same shape as x; every pair keeps its norm.
    """
    cosine, sine = table.to(x.dtype)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


def grid_coordinates(grid: tuple[int, int, int], device: torch.device | None = None) -> Tensor:
    """Returns (tokens, 3): time, height, width index of every token of a grid, width fastest."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
