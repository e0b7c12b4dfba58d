"""What is done to the transformer blocks of a model, one by one: recomputed, or compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from jepa.models.transformer import Block


def blocks_of(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yields all transformer blocks."""
    for module in modules:
        yield from (child for child in module.modules() if isinstance(child, Block))


def checkpoint_blocks(modules: Iterable[nn.Module]) -> None:
    """Makes blocks keep their input only, and compute the rest again in the backward pass.

    The forward of each block is replaced, the block is not: names in checkpoints stay.
    """
    for block in blocks_of(modules):
        recomputed: Any = partial(checkpoint, block.forward, use_reentrant=False)
        block.forward = recomputed


def compile_blocks(modules: Iterable[nn.Module]) -> None:
    """Compiles every block where it is: names in checkpoints stay."""
    for block in blocks_of(modules):
        block.compile()
