"""The attentive probe: learned queries look at a frozen encoder's tokens, linear heads classify."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.transformer import Block, initialize

# The released probes keep torch's default, where the encoders have 1e-6.
NORM_EPS = 1e-5


class AttentiveProbe(nn.Module):
    """An attentive pooler and a linear head for every one of its queries.

    The classifier of V-JEPA (arXiv:2404.08471, Sec. 4) and V-JEPA 2 (arXiv:2506.09985, Sec. 5 and
    6): {"label": 174} is the ordinary one; {"verb": 97, "noun": 300, "action": 3806} is that of
    EK100, where query i feeds head i in this order. The released recipe has num_heads=16 and
    mlp_ratio=4.0 for every encoder, also where the encoder has others.

    Args:
        dim: width of the encoder's tokens.
        num_classes: classes of each head by its name; the order is that of queries and heads.
        num_heads: see `AttentivePooler`, as the rest.
        depth: see `AttentivePooler`.
        mlp_ratio: see `AttentivePooler`.
        norm_eps: see `AttentivePooler`.
        class_names: what the classes of each head are called, in the order of its logits; None:
            not known. Two classes may have one name.

    Attributes:
        config: the settings; `AttentiveProbe(**probe.config)` has the same architecture. It has
            class_names only where they are known.
        names: of the heads.
        class_names: as given.

    Raises:
        ValueError: if the settings do not fit one another.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_classes: dict[str, int],
        num_heads: int = 16,
        depth: int = 4,
        mlp_ratio: float = 4.0,
        norm_eps: float = NORM_EPS,
        class_names: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        if not num_classes or min(num_classes.values()) < 1:
            raise ValueError(
                'num_classes must name heads of at least one class each, as {"label": 174}, '
                f"got {num_classes}"
            )
        self.config: dict[str, Any] = {
            "dim": dim,
            "num_classes": dict(num_classes),
            "num_heads": num_heads,
            "depth": depth,
            "mlp_ratio": mlp_ratio,
            "norm_eps": norm_eps,
        }
        self.class_names: dict[str, list[str]] | None = None
        if class_names is not None:
            _refuse_misnamed_classes(class_names, num_classes)
            self.class_names = {head: list(class_names[head]) for head in num_classes}
            self.config["class_names"] = self.class_names
        self.names = tuple(num_classes)
        self.pooler = AttentivePooler(
            dim=dim,
            num_heads=num_heads,
            depth=depth,
            num_queries=len(num_classes),
            mlp_ratio=mlp_ratio,
            norm_eps=norm_eps,
        )
        self.heads = nn.ModuleList([nn.Linear(dim, count) for count in num_classes.values()])

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Classifies.

        Args:
            tokens: (batch, tokens, dim), of one clip or of several, one after the other.

        Returns:
            Logits (batch, classes) by the name of the head, in the order of num_classes.

        Raises:
            ValueError: if tokens have another layout.
        """
        pooled = self.pooler(tokens)  # (batch, queries, dim)
        heads = zip(self.names, self.heads, strict=True)
        return {name: head(pooled[:, index]) for index, (name, head) in enumerate(heads)}

    def class_name(self, head: str, index: int) -> str:
        """Returns what a class of a head is called; its index where names are not known."""
        return str(index) if self.class_names is None else self.class_names[head][index]


class AttentivePooler(nn.Module):
    """Self-attention among tokens, then cross-attention of learned queries to them.

    As in V-JEPA 2 (arXiv:2506.09985, Sec. 5), which has three blocks of self-attention and so
    depth 4; depth 1 is that of V-JEPA (arXiv:2404.08471, Sec. 4), which has cross-attention only.
    There are no positions and no mask: the order of the tokens does not matter.

    Args:
        dim: width of the tokens.
        num_heads: attention heads; must divide dim.
        depth: blocks in all, the cross-attention included.
        num_queries: learned queries, and so vectors that come out.
        mlp_ratio: hidden width of the MLPs over dim.
        norm_eps: epsilon of the layer norms.

    Raises:
        ValueError: if num_heads does not divide dim, or depth or num_queries is less than 1.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int = 16,
        depth: int = 4,
        num_queries: int = 1,
        mlp_ratio: float = 4.0,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be at least 1, the cross-attention, got {depth}")
        if num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {num_queries}")
        self.queries = nn.Parameter(torch.zeros(num_queries, dim))
        blocks = [
            Block(dim, num_heads, mlp_ratio=mlp_ratio, norm_eps=norm_eps) for _ in range(depth - 1)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.cross = CrossBlock(dim, num_heads, mlp_ratio=mlp_ratio, norm_eps=norm_eps)
        self._initialize()

    def forward(self, tokens: Tensor) -> Tensor:
        """Pools.

        Args:
            tokens: (batch, tokens, dim), at least one token.

        Returns:
            (batch, queries, dim).

        Raises:
            ValueError: if tokens have another layout.
        """
        dim = self.queries.shape[-1]
        if tokens.ndim != 3 or tokens.shape[1] < 1 or tokens.shape[-1] != dim:
            raise ValueError(f"tokens must be (batch, tokens, {dim}), got {tuple(tokens.shape)}")
        for block in self.blocks:
            tokens, _ = block(tokens, None)
        queries = self.queries.expand(len(tokens), -1, -1)  # (batch, queries, dim)
        return self.cross(queries, tokens)

    def _initialize(self) -> None:
        """Initialises as V-JEPA 2 does: normal(0, 0.02), residual branches scaled with depth."""
        initialize(self)
        nn.init.trunc_normal_(self.queries, std=0.02)
        # The released code scales the cross-attention's MLP as it does the block before it, as if
        # it were no deeper. Kept so that probes start as the published ones did;
        # sqrt(2 * (len(self.blocks) + 1)) would mend it. With no block before, it is the first.
        last = self.cross.mlp[2]
        assert isinstance(last, nn.Linear)
        last.weight.data.div_(math.sqrt(2 * max(len(self.blocks), 1)))


class CrossBlock(nn.Module):
    """queries + attention(queries, norm(x)), then queries + mlp(norm(queries))."""

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float, norm_eps: float) -> None:
        super().__init__()
        hidden = round(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        """Returns (batch, queries, dim) from such queries and tokens (batch, tokens, dim)."""
        queries = queries + self.attn(queries, self.norm1(x))
        return queries + self.mlp(self.norm2(queries))


class CrossAttention(nn.Module):
    """Multi-head attention of queries to tokens, without a projection of what comes out."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"dim={dim} must be divisible by num_heads={num_heads}")
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        """Returns (batch, queries, dim) from such queries and tokens (batch, tokens, dim)."""
        queries = self.q(queries).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        kv = self.kv(x).unflatten(-1, (2, self.num_heads, -1))
        keys, values = kv.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, head_dim)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        return attended.transpose(1, 2).flatten(2)


def _refuse_misnamed_classes(class_names: object, num_classes: dict[str, int]) -> None:
    """Raises ValueError unless every class of every head has a name."""
    if not isinstance(class_names, dict):  # as a config.json may have it
        raise ValueError(f"class_names must be lists by head, got a {type(class_names).__name__}")
    for head, names in class_names.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names of {head!r} must be a list of strings")
    counts = {head: len(names) for head, names in class_names.items()}
    if counts != num_classes:
        raise ValueError(f"class_names must name all classes of {num_classes}, got {counts} names")
