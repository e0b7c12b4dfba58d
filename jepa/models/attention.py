"""Scaled dot-product attention, by what is fastest where it runs.

On a GPU, in exported graphs and for long sequences that is torch's own. On a CPU in eager mode
three things are worth the code: rotating queries and keys as complex numbers, while they are laid
out by heads anyway; attention as two plain products and a softmax, because torch's fused kernel is
2 to 4 times slower in bfloat16; and one gradient by hand for all of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from jepa.models.eager_cpu import multiplies_bfloat16, runs_on_eager_cpu
from jepa.models.rope import complex_factors, rotate, rotated

# Tokens up to which two products and a softmax are used instead of torch's fused kernel.
MAX_TOKENS = {torch.bfloat16: 2048, torch.float32: 0}  # without gradient
MAX_TOKENS_TO_LEARN = {torch.bfloat16: 1024, torch.float32: 512}  # what is kept grows with squares
MAX_SCORES = 2**22  # computed at a time, without gradient: 8 MB in bfloat16
MAX_EXPONENTIALS = 2**20  # computed at a time: 4 MB in float32, within a processor's cache
LOG2_E = math.log2(math.e)


def rotary_attention(
    qkv: Tensor, table: Tensor | None, *, num_heads: int, is_visible: Tensor | None = None
) -> Tensor:
    """Attends within a sequence.

    Args:
        qkv: (batch, tokens, 3 * dim), queries, keys and values of all heads side by side.
        table: rotation of the tokens, see `jepa.models.rope.rotation`; None: not rotated.
        num_heads: attention heads.
        is_visible: (tokens, tokens) bool, True where a query may look; None: everywhere.

    Returns:
        (batch, tokens, dim), all heads side by side.
    """
    is_learned = torch.is_grad_enabled() and qkv.requires_grad
    limit = MAX_TOKENS_TO_LEARN.get(qkv.dtype, 0)
    if is_learned and qkv.shape[1] <= limit and _is_eager(qkv, table):
        factors = (None, None) if table is None else complex_factors(table)
        return _RotaryAttention.apply(qkv, *factors, num_heads, is_visible)
    queries, keys, values = split_heads(qkv, num_heads)
    if table is not None:
        queries, keys = rotate(queries, table), rotate(keys, table)
    return join_heads(attend(queries, keys, values, is_visible=is_visible))


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, *, is_visible: Tensor | None = None
) -> Tensor:
    """Attends.

    Args:
        queries: (batch, heads, tokens, head_dim).
        keys: (batch, heads, keys, head_dim).
        values: (batch, heads, keys, head_dim).
        is_visible: (tokens, keys) bool, True where a query may look; None: everywhere.

    Returns:
        (batch, heads, tokens, head_dim).
    """
    tensors = queries, keys, values
    is_learned = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    is_short = keys.shape[2] <= MAX_TOKENS.get(queries.dtype, 0)
    if not is_learned and is_short and _is_eager(*tensors):
        return _attend_in_parts(*tensors, is_visible)
    if is_short and _is_compiled_for_cpu(queries):
        return _attend_in_plain_operations(*tensors, is_visible)
    return F.scaled_dot_product_attention(*tensors, attn_mask=is_visible)


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts (batch, tokens, 3 * dim) into queries, keys, values (batch, heads, tokens, head_dim)."""
    queries, keys, values = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return queries, keys, values


def join_heads(x: Tensor) -> Tensor:
    """Lays (batch, heads, tokens, head_dim) out as (batch, tokens, dim)."""
    return x.transpose(1, 2).flatten(2)


class _RotaryAttention(torch.autograd.Function):
    """`rotary_attention`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        qkv: Tensor,
        turn: Tensor | None,
        fold: Tensor | None,
        num_heads: int,
        is_visible: Tensor | None,
    ) -> Tensor:
        heads = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
        asked = heads[:2].contiguous() if turn is None else rotated(heads[:2], turn, fold)
        queries, keys = asked.flatten(1, 2).unbind(0)  # each (batch * heads, tokens, head_dim)
        values = heads[2].flatten(0, 1)
        weights = _weights(queries, keys, is_visible)
        ctx.save_for_backward(queries, keys, values, weights, turn, fold)
        ctx.num_heads = num_heads
        return join_heads(torch.bmm(weights, values).unflatten(0, (-1, num_heads)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ANN401
        queries, keys, values, weights, turn, fold = ctx.saved_tensors
        gradient = gradient.unflatten(-1, (ctx.num_heads, -1)).transpose(1, 2)
        batch, heads, tokens, head_dim = gradient.shape
        gradient = gradient.flatten(0, 1)  # (batch * heads, tokens, head_dim)
        of_scores = torch.ops.aten._softmax_backward_data(
            torch.bmm(gradient, values.mT), weights, -1, weights.dtype
        )
        asked = gradient.new_empty(2, *gradient.shape)
        _scaled_product(of_scores, keys, scale=head_dim**-0.5, out=asked[0])
        _scaled_product(of_scores.mT, queries, scale=head_dim**-0.5, out=asked[1])
        asked = asked.unflatten(1, (batch, heads))
        result = gradient.new_empty(batch, tokens, 3, heads, head_dim)
        of_heads = result.permute(2, 0, 3, 1, 4)
        of_heads[:2] = asked if turn is None else rotated(asked, turn.conj(), fold)
        of_heads[2] = torch.bmm(weights.mT, gradient).unflatten(0, (batch, heads))
        return result.flatten(2), None, None, None, None


def _attend_in_parts(
    queries: Tensor, keys: Tensor, values: Tensor, is_visible: Tensor | None
) -> Tensor:
    """Attends without gradient, some heads at a time, so that few scores are held at once."""
    shape = queries.shape
    tensors = [x.expand(shape[0], -1, -1, -1).flatten(0, 1) for x in (queries, keys, values)]
    heads_at_once = max(MAX_SCORES // (shape[2] * keys.shape[2]), 1)
    parts = [
        torch.bmm(_weights(q, k, is_visible), v)
        for q, k, v in zip(*(x.split(heads_at_once) for x in tensors), strict=True)
    ]
    return torch.cat(parts).view(shape) if len(parts) > 1 else parts[0].view(shape)


def _attend_in_plain_operations(
    queries: Tensor, keys: Tensor, values: Tensor, is_visible: Tensor | None
) -> Tensor:
    """Attends by operations that a compiler can join."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
    if is_visible is not None:
        scores = scores.masked_fill(~is_visible, -torch.inf)
    return torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype) @ values


def _weights(queries: Tensor, keys: Tensor, is_visible: Tensor | None) -> Tensor:
    """Returns softmax(queries @ keys.T / sqrt(head_dim)): (groups, tokens, keys)."""
    is_float32 = queries.dtype == torch.float32
    unit = 1.0 if is_float32 else LOG2_E  # in bfloat16 of the logarithm to base 2
    scores = queries.new_empty(queries.shape[0], queries.shape[1], keys.shape[1])
    _scaled_product(queries, keys.mT, scale=unit * queries.shape[-1] ** -0.5, out=scores)
    if is_visible is not None:
        scores.masked_fill_(~is_visible, -torch.inf)
    return torch.softmax(scores, -1) if is_float32 else _softmax_base_2(scores)


def _softmax_base_2(scores: Tensor) -> Tensor:
    """Overwrites scores by 2 ** scores over their sums; in single precision, some heads at a time.

    Twice as fast as torch's softmax of bfloat16, because the largest score of a row is not looked
    for. That it was not needed is seen by the sums: a row whose sum is neither huge nor tiny has
    lost nothing. Otherwise it is done torch's way.
    """
    heads_at_once = max(MAX_EXPONENTIALS // (scores.shape[1] * scores.shape[2]), 1)
    parts = scores.split(heads_at_once)
    buffer = torch.empty(parts[0].shape, dtype=torch.float32)
    for part in parts:
        powers = buffer[: len(part)].copy_(part).exp2_()
        sums = powers.sum(-1, keepdim=True)
        low, high = sums.aminmax()
        if low.item() > 2.0**-100 and high.item() < 2.0**120:
            part.copy_(powers.mul_(sums.reciprocal_()))
        else:
            part.copy_(torch.softmax(part.float() / LOG2_E, -1))
    return scores


def _scaled_product(left: Tensor, right: Tensor, *, scale: float, out: Tensor) -> None:
    """Writes scale * left @ right into `out`."""
    out.baddbmm_(left, right, beta=0, alpha=scale)  # beta=0: what was there is not read


def _is_compiled_for_cpu(queries: Tensor) -> bool:
    is_compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return is_compiled and queries.device.type == "cpu"


def _is_eager(*tensors: Tensor | None) -> bool:
    present = [tensor for tensor in tensors if tensor is not None]
    if not runs_on_eager_cpu(*present):
        return False
    return present[0].dtype != torch.bfloat16 or multiplies_bfloat16()
