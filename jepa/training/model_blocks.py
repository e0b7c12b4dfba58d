"""What is done to the transformer blocks of a model, one by one: recomputed, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jepa.models.dynamics.adaln import AdaLNBlock
from jepa.models.transformer import Block

# All blocks are one piece of code, and torch compiles one piece of code at most 8 times; then it
# runs what is new uncompiled, after one line in its log. A mask's length is a variable after its
# first change, so lengths cost nothing. What costs one compilation each: encoder, target and
# predictor, a first length and all others, the predictor's last block, validation, a precision, a
# last batch that is smaller, images. Together they are more than 8 and fewer than this.
LEAST_RECOMPILE_LIMIT = 64


def blocks_of(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yields all transformer blocks."""
    for module in modules:
        yield from (child for child in module.modules() if isinstance(child, Block | AdaLNBlock))


def checkpoint_blocks(modules: Iterable[nn.Module]) -> None:
    """Makes blocks keep their input only, and compute the rest again in the backward pass.

    The forward of each block is replaced, the block is not: names in checkpoints stay.
    """
    for block in blocks_of(modules):
        recomputed: Any = partial(checkpoint, block.forward, use_reentrant=False)
        block.forward = recomputed


def compile_blocks(
    modules: Iterable[nn.Module], *, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compiles every block where it is: names in checkpoints stay.

    Raises torch's limit of compilations, for the whole process, see `LEAST_RECOMPILE_LIMIT`.

    Args:
        modules: with blocks.
        backend: what torch.compile hands the graphs to.
    """
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, LEAST_RECOMPILE_LIMIT)
    for block in blocks_of(modules):
        block.compile(backend=backend)
