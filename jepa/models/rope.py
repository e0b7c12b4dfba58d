"""Rotary positions in three dimensions: time, height, width (V-JEPA 2, arXiv:2506.09985, Sec. 2.1).

A head's channels are split into [time | height | width | rest]; each part is rotated by its own
coordinate, the rest is left alone. Pairs are adjacent channels. In the interleaved style a pair has
one frequency, which makes it a rotation: V-JEPA 2.1, and what is trained here. The tiled style is
a bug that the weights of V-JEPA 2 and 2-AC have learned to live with: the table of frequencies is
repeated as a whole, so the two members of a pair turn by different angles, and scores depend on
more than differences of places. Kept for those weights; only retraining would mend it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jepa.models.eager_cpu import runs_on_eager_cpu

BASE = 10_000.0
FAST_TYPES = (torch.float32, torch.bfloat16)
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
    """Returns the factors that rotate channel pairs, read as complex numbers z.

    Computed once per forward pass, for all layers and heads. A pair becomes turn * z; of the tiled
    style, where its members turn by different angles, turn * z + fold * conj(z).

    Args:
        angles: (..., tokens, members, pairs) from `rope_angles`.

    Returns:
        (members, ..., 1, tokens, pairs, 2): turn and, if there are two members, fold, as real and
        imaginary parts; the new axis after the leading ones is that of the heads.
    """
    cosine, sine = angles.cos(), angles.sin()
    if angles.shape[-2] == 1:
        factors = [(cosine[..., 0, :], sine[..., 0, :])]
    else:
        (even_cos, odd_cos), (even_sin, odd_sin) = cosine.unbind(-2), sine.unbind(-2)
        factors = [
            ((even_cos + odd_cos) / 2, (even_sin + odd_sin) / 2),
            ((even_cos - odd_cos) / 2, (odd_sin - even_sin) / 2),
        ]
    return torch.stack([torch.stack(parts, -1) for parts in factors]).unsqueeze(-4)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates adjacent channel pairs of queries or keys.

    Args:
        x: (batch, heads, tokens, head_dim).
        table: from `rotation`, broadcastable to (members, batch, heads, tokens, head_dim // 2, 2).

    Returns:
        The same shape as x; every pair keeps its norm, unless the style is tiled.
    """
    if x.dtype in FAST_TYPES and runs_on_eager_cpu(x, table):
        return _Rotate.apply(x, *complex_factors(table))
    turn, *fold = table.to(x.dtype).unbind(0)
    real, imaginary = turn.unbind(-1)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = even * real - odd * imaginary, even * imaginary + odd * real
    if fold:
        real, imaginary = fold[0].unbind(-1)
        folded = even * real + odd * imaginary, even * imaginary - odd * real
        rotated = rotated[0] + folded[0], rotated[1] + folded[1]
    return torch.stack(rotated, -1).flatten(-2)


def complex_factors(table: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns turn and fold of a table of `rotation`, complex (..., 1, tokens, pairs)."""
    turn, *fold = torch.view_as_complex(table).unbind(0)
    return turn, fold[0] if fold else None


def rotated(x: Tensor, turn: Tensor, fold: Tensor | None) -> Tensor:
    """Returns turn * z + fold * conj(z), z being the channel pairs of x as complex numbers.

    Args:
        x: (..., heads, tokens, head_dim) on the CPU, in any layout of its memory.
        turn: complex64, broadcastable to (..., heads, tokens, head_dim // 2).
        fold: the same, or None.

    Returns:
        Like x, contiguous; the product is taken in single precision.
    """
    copy = torch.empty(x.shape, dtype=torch.float32).copy_(x)
    z = torch.view_as_complex(copy.unflatten(-1, (-1, 2)))
    folded = None if fold is None else z.conj() * fold
    z.mul_(turn)
    if folded is not None:
        z.add_(folded)
    return copy.to(x.dtype)


class _Rotate(torch.autograd.Function):
    """`rotated`, with the gradient that autograd would need several copies for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Tensor, fold: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(turn, fold)
        return rotated(x, turn, fold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ANN401
        turn, fold = ctx.saved_tensors
        return rotated(gradient, turn.conj(), fold), None, None


def grid_coordinates(grid: tuple[int, int, int], device: torch.device | None = None) -> Tensor:
    """Returns (tokens, 3): time, height, width index of every token of a grid, width fastest."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
