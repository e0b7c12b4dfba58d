"""How widely attention looks: the entropy of every head, seen from outside of the forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from jepa.models.attention import split_heads
from jepa.models.rope import rotate
from jepa.models.transformer import Attention

MAX_QUERIES = 256  # of a clip, evenly spread


@contextmanager
def attention_entropies(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that grows by one (heads,) for every layer of attention that is passed.

    Each is the mean over clips and queries of the entropy of a head's weights over the logarithm of
    the number of keys, in [0, 1]: 1 looks at all tokens alike, 0 at a single one. The weights are
    computed a second time, from the same queries and keys, for at most 256 queries a clip: the
    forward pass has none (`jepa.models.attention`), and stays as it is.

    Args:
        model: anything with `jepa.models.transformer.Attention` in it. Layers that see past tokens
            as well, as dynamics do, are left out.
    """
    found: list[Tensor] = []

    def look(attention: Attention, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        x, table = inputs
        if not options.get("past"):
            found.append(_entropy(attention, x, table, options.get("is_visible")))

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks: list[Any] = [
        layer.register_forward_pre_hook(look, with_kwargs=True)  # pyright: ignore[reportArgumentType]
        for layer in layers
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _entropy(
    attention: Attention, x: Tensor, table: Tensor | None, is_visible: Tensor | None
) -> Tensor:
    """Returns the entropy of every head over the largest there is: (heads,)."""
    queries, keys, _ = split_heads(attention.qkv(x), attention.num_heads)
    if table is not None:
        queries, keys = rotate(queries, table), rotate(keys, table)
    num_tokens = x.shape[1]
    if num_tokens < 2:
        return x.new_ones(attention.num_heads)
    rows = torch.linspace(0, num_tokens - 1, min(MAX_QUERIES, num_tokens), device=x.device).long()
    queries = queries[:, :, rows].float() * queries.shape[-1] ** -0.5
    entropies = []
    for query, key in zip(queries, keys.float(), strict=True):  # clip by clip: few scores at once
        scores = query @ key.mT  # (heads, queries, keys)
        if is_visible is not None:
            scores = scores.masked_fill(~is_visible[rows], -torch.inf)
        entropies.append(torch.special.entr(scores.softmax(-1)).sum(-1).mean(-1))
    return torch.stack(entropies).mean(0) / math.log(num_tokens)
