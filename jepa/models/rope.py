"""Rotary positions in three dimensions: time, height, width (V-JEPA 2, arXiv:2506.09985, Sec. 2.1).

A head's channels are split into [time | height | width | rest]; each part is rotated by its own
coordinate, the rest is left alone. Pairs are adjacent channels. In the interleaved style a pair has
one frequency, which makes it a rotation: V-JEPA 2.1, and what is trained here. The tiled style is
a bug that the weights of V-JEPA 2 and 2-AC have learned to live with: the table of frequencies is
repeated as a whole, so the two members of a pair turn by different angles, and scores depend on
more than differences of places. Kept for those weights; only retraining would mend it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

BASE = 10_000.0
RopeStyle = Literal["interleaved", "tiled"]


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


def rope_angles(coordinates: Tensor, *, head_dim: int, style: RopeStyle = "interleaved") -> Tensor:
    """Returns the rotation angle of every channel pair, or of both members of every pair.

    Args:
        coordinates: (..., tokens, 3), time, height and width of each token, in tokens; 0 on an axis
            that should not rotate.
        head_dim: channels of one attention head, even and at least 12.
        style: see the top of this file.

    Returns:
        (..., tokens, members, head_dim // 2) angles in radians, [time | height | width | zeros];
        members is 1 if a pair shares its angle (interleaved), else 2 (tiled).

    Raises:
        ValueError: if head_dim or the layout of the coordinates is another one.
    """
    if coordinates.ndim < 2 or coordinates.shape[-1] != 3:
        raise ValueError(f"coordinates must be (..., tokens, 3), got {tuple(coordinates.shape)}")
    pairs = axis_dim(head_dim) // 2
    index = torch.arange(pairs, device=coordinates.device, dtype=torch.float32)
    frequencies = (BASE ** (-index / pairs)).unsqueeze(0)  # (members, pairs)
    if style == "tiled":  # channels 0, 1, 2, ... take frequencies 0 ... pairs - 1, 0 ... pairs - 1
        frequencies = frequencies.repeat(1, 2).unflatten(1, (pairs, 2)).squeeze(0).T
    places = coordinates.float().unsqueeze(-1).unsqueeze(-3)  # (..., tokens, 1, 3, 1)
    angles = (places * frequencies.unsqueeze(-2)).flatten(-2)  # (..., tokens, members, 3 * pairs)
    rest = head_dim // 2 - 3 * pairs
    return torch.nn.functional.pad(angles, (0, rest))


def rotation(angles: Tensor) -> Tensor:
    """Returns cosine and sine of angles (..., tokens, members, pairs).

    Computed once per forward pass, for all layers and heads: (2, ..., 1, tokens, members, pairs);
    the new axis after the leading ones is that of the heads.
    """
    return torch.stack((angles.cos(), angles.sin())).unsqueeze(-4)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates adjacent channel pairs of queries or keys.

    Args:
        x: (batch, heads, tokens, head_dim).
        table: from `rotation`, broadcastable to (2, batch, heads, tokens, members, head_dim // 2).

    Returns:
        The same shape as x; every pair keeps its norm, unless the style is tiled.
    """
    cosine, sine = table.to(x.dtype)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack(
        (
            even * cosine[..., 0, :] - odd * sine[..., 0, :],
            even * sine[..., -1, :] + odd * cosine[..., -1, :],
        ),
        -1,
    ).flatten(-2)


def grid_coordinates(grid: tuple[int, int, int], device: torch.device | None = None) -> Tensor:
    """Returns (tokens, 3): time, height, width index of every token of a grid, width fastest."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
