"""The pre-norm transformer block that encoder, predictor and dynamics share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.rope import rotate
from jepa.models.settings import refuse_wrong_counts, refuse_wrong_ratios

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with optional rotary positions and key/value cache."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        refuse_wrong_counts(dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ValueError(f"dim={dim} must be divisible by num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        table: Tensor | None,
        *,
        is_visible: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attends.

        Args:
            x: (batch, tokens, dim).
            table: rotation of these tokens, see `jepa.models.rope.rotation`; None: not rotated.
            is_visible: (tokens, keys) bool, True where a query may look; None: everywhere.
            past: keys and values (batch, heads, past tokens, head_dim) to look at as well.

        Returns:
            (batch, tokens, dim), and the keys and values including the past ones.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, head_dim)
        if table is not None:
            queries, keys = rotate(queries, table), rotate(keys, table)
        if past is not None:
            keys, values = _append(past[0], keys), _append(past[1], values)
        x = F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_visible)
        x = self.proj(x.transpose(1, 2).flatten(2))
        return x, (keys, values)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, dim: int, num_heads: int, *, mlp_ratio: float, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        refuse_wrong_counts(dim=dim)
        refuse_wrong_ratios(mlp_ratio=mlp_ratio)
        hidden = round(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(
        self,
        x: Tensor,
        table: Tensor | None,
        *,
        is_visible: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns tokens (batch, tokens, dim) and the keys and values of this layer."""
        attended, cache = self.attn(self.norm1(x), table, is_visible=is_visible, past=past)
        x = x + attended
        return x + self.mlp(self.norm2(x)), cache


class Transformer(nn.Module):
    """A stack of blocks and a final norm."""

    def __init__(self, dim: int, *, depth: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        refuse_wrong_counts(least=0, depth=depth)
        refuse_wrong_counts(dim=dim)
        blocks = [Block(dim, num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        initialize(self)

    def forward(
        self, x: Tensor, table: Tensor | None, *, is_visible: Tensor | None = None
    ) -> Tensor:
        """Maps tokens (batch, tokens, dim) to tokens of the same shape."""
        for block in self.blocks:
            x, _ = block(x, table, is_visible=is_visible)
        return self.norm(x)

    def layers(self, x: Tensor, table: Tensor | None, indices: Sequence[int]) -> list[Tensor]:
        """Returns what the blocks at `indices` (ascending, from 0) put out, not normed."""
        outputs = []
        for block in self.blocks[: indices[-1] + 1]:
            x, _ = block(x, table)
            outputs.append(x)
        return [outputs[index] for index in indices]


def initialize(module: nn.Module) -> None:
    """Initialises as V-JEPA 2 does: normal(0, 0.02), residual branches scaled down with depth."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv3d):
            nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    for index, block in enumerate(m for m in module.modules() if isinstance(m, Block)):
        scale = 1 / math.sqrt(2 * (index + 1))
        for linear in (block.attn.proj, block.mlp[2]):
            assert isinstance(linear, nn.Linear)
            linear.weight.data.mul_(scale)


def _append(past: Tensor, new: Tensor) -> Tensor:
    """Appends along the token axis; a past that all samples share (batch 1) is expanded."""
    return torch.cat((past.expand(new.shape[0], -1, -1, -1), new), dim=2)
