"""The pre-norm transformer block that encoder, predictor and dynamics share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jepa.models.attention import attend, join_heads, rotary_attention, split_heads
from jepa.models.linear import MLP, Linear
from jepa.models.rope import rotate
from jepa.models.settings import refuse_wrong_counts, refuse_wrong_ratios

NORM_EPS = 1e-6
KeysValues = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head self-attention with optional rotary positions and key/value cache."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        refuse_wrong_counts(dim=dim, num_heads=num_heads)
        if dim % num_heads:
            raise ValueError(f"dim={dim} must be divisible by num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        table: Tensor | None,
        *,
        is_visible: Tensor | None = None,
        past: Sequence[KeysValues] = (),
        needs_cache: bool = True,
        first_output: int = 0,
    ) -> tuple[Tensor, KeysValues | None]:
        """Attends.

        Args:
            x: (batch, tokens, dim).
            table: rotation of these tokens, see `jepa.models.rope.rotation`; None: not rotated.
            is_visible: (tokens, keys) bool, True where a query may look; None: everywhere.
            past: keys and values of tokens before these, in pieces, to look at as well: each
                (1 or batch, heads, tokens of the piece, head_dim).
            needs_cache: return keys and values; without is faster.
            first_output: token from which on the output is wanted.

        Returns:
            (batch, tokens - first_output, dim), and the keys and values of these tokens, a piece of
            the past of those that follow.
        """
        if not past and not needs_cache:
            qkv = self.qkv(x)  # (batch, tokens, 3 * dim)
            x = rotary_attention(qkv, table, num_heads=self.num_heads, is_visible=is_visible)
            return self.proj(x[:, first_output:]), None
        queries, keys, values = _rotated_heads(self.qkv(x), table, self.num_heads)
        if needs_cache:
            values = values.contiguous()  # a view would keep all that qkv has put out
        pieces = (*past, (keys, values))
        attended = self._attended(queries, pieces, is_visible, first_output)
        return attended, (keys, values) if needs_cache else None

    def forward_shared(
        self,
        own: Tensor,
        shared: Tensor,
        table: Tensor | None,
        *,
        past: Sequence[KeysValues] = (),
        needs_cache: bool = True,
        first_output: int = 0,
    ) -> tuple[Tensor, KeysValues | None]:
        """As `forward` of tokens of which the last are the same for all, and computed once.

        Args:
            own: (batch, tokens of each sample, dim).
            shared: (1, tokens of all, dim), which follow them.
            table: rotation of both.
            past: as for `forward`.
            needs_cache: as for `forward`.
            first_output: as for `forward`.
        """
        num_own = own.shape[1]
        tables = (None, None) if table is None else (table[..., :num_own, :, :],
                                                     table[..., num_own:, :, :])  # fmt: skip
        of_own, of_all = (
            _rotated_heads(self.qkv(part), turn, self.num_heads)
            for part, turn in zip((own, shared), tables, strict=True)
        )
        queries, keys, values = (
            torch.cat((mine, everyones.expand(own.shape[0], -1, -1, -1)), dim=2)
            for mine, everyones in zip(of_own, of_all, strict=True)
        )
        pieces = (*past, (keys, values))
        attended = self._attended(queries, pieces, None, first_output)
        return attended, (keys, values) if needs_cache else None

    def _attended(
        self,
        queries: Tensor,
        pieces: Sequence[KeysValues],
        is_visible: Tensor | None,
        first_output: int,
    ) -> Tensor:
        """Attends to all pieces, from the tokens whose output is wanted; see `forward`."""
        keys, values = pieces[0]
        if len(pieces) > 1:  # (not len() of a tensor below: it would fix the batch of an export)
            keys, values = (_joined(part, queries.shape[0]) for part in zip(*pieces, strict=True))
        if first_output:
            queries = queries[:, :, first_output:]
            is_visible = None if is_visible is None else is_visible[first_output:]
        return self.proj(join_heads(attend(queries, keys, values, is_visible=is_visible)))


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
        self.mlp = MLP(dim, hidden)

    def forward(
        self,
        x: Tensor,
        table: Tensor | None,
        *,
        is_visible: Tensor | None = None,
        past: Sequence[KeysValues] = (),
        needs_cache: bool = True,
        first_output: int = 0,
    ) -> tuple[Tensor, KeysValues | None]:
        """Returns tokens (batch, tokens, dim) and the keys and values; see `Attention.forward`."""
        attended, cache = self.attn(
            self.norm1(x),
            table,
            is_visible=is_visible,
            past=past,
            needs_cache=needs_cache,
            first_output=first_output,
        )
        x = x[:, first_output:] + attended
        del attended  # while the MLP needs the most memory
        return x + self.mlp(self.norm2(x)), cache

    def forward_shared(
        self,
        own: Tensor,
        shared: Tensor,
        table: Tensor | None,
        *,
        past: Sequence[KeysValues] = (),
        needs_cache: bool = True,
        first_output: int = 0,
    ) -> tuple[Tensor, KeysValues | None]:
        """As `forward` of tokens of which the last are the same for all samples.

        Their keys, values and queries are computed once; what they see differs, and so does all
        that follows. See `Attention.forward_shared`.
        """
        attended, cache = self.attn.forward_shared(
            self.norm1(own),
            self.norm1(shared),
            table,
            past=past,
            needs_cache=needs_cache,
            first_output=first_output,
        )
        x = torch.cat((own, shared.expand(own.shape[0], -1, -1)), dim=1)
        x = x[:, first_output:] + attended
        del attended
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
        self,
        x: Tensor,
        table: Tensor | None,
        *,
        is_visible: Tensor | None = None,
        first_output: int = 0,
    ) -> Tensor:
        """Maps tokens to tokens.

        Args:
            x: (batch, tokens, dim).
            table: as for `Attention.forward`.
            is_visible: as for `Attention.forward`.
            first_output: token from which on the output is wanted; the last block leaves out what
                is not.

        Returns:
            (batch, tokens - first_output, dim).
        """
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            first = first_output if index == last else 0
            x, _ = block(x, table, is_visible=is_visible, needs_cache=False, first_output=first)
        return self.norm(x if self.blocks else x[:, first_output:])

    def layers(self, x: Tensor, table: Tensor | None, indices: Sequence[int]) -> list[Tensor]:
        """Returns what the blocks at `indices` (ascending, from 0) put out, not normed."""
        outputs = []
        for block in self.blocks[: indices[-1] + 1]:
            x, _ = block(x, table, needs_cache=False)
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


def _rotated_heads(
    qkv: Tensor, table: Tensor | None, num_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts queries, keys and values into heads, and rotates the first two."""
    queries, keys, values = split_heads(qkv, num_heads)
    if table is None:
        return queries, keys, values
    return rotate(queries, table), rotate(keys, table), values


def _joined(pieces: Sequence[Tensor], batch: int) -> Tensor:
    """Joins pieces along the token axis; those that all samples share (batch 1) are expanded."""
    return torch.cat([piece.expand(batch, -1, -1, -1) for piece in pieces], dim=2)
