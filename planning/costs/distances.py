"""Distances of latents, for where the world model's own is not wanted.

All are functions of latents (..., tokens, dim) and a goal (tokens, dim), as
`LatentWorld.distance` is, and return (...), at least 0. Gradients are finite everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class L1:
    """Mean absolute difference.

    Args:
        is_pooled: compare the mean tokens, which say what there is but not where; False compares
            token by token.
    """

    is_pooled: bool = False

    def __call__(self, latents: Tensor, goal: Tensor) -> Tensor:
        """See the module."""
        return _difference(latents, goal, self.is_pooled).abs().mean((-2, -1))


@dataclass(frozen=True)
class L2:
    """Root of the mean squared difference, or the mean squared difference.

    Args:
        is_pooled: see `L1`.
        is_squared: leave the root out.
    """

    is_pooled: bool = False
    is_squared: bool = False

    def __call__(self, latents: Tensor, goal: Tensor) -> Tensor:
        """See the module."""
        difference = _difference(latents, goal, self.is_pooled).flatten(-2)
        if self.is_squared:
            return difference.square().mean(-1)
        # Unlike a root of squares, a norm has a gradient at 0, which is 0.
        return torch.linalg.vector_norm(difference, dim=-1) / difference.shape[-1] ** 0.5


@dataclass(frozen=True)
class Cosine:
    """One minus the cosine of the angle between tokens, averaged over tokens: from 0 to 2.

    Args:
        is_pooled: see `L1`.
    """

    is_pooled: bool = False

    def __call__(self, latents: Tensor, goal: Tensor) -> Tensor:
        """See the module."""
        latents, goal = _tokens(latents, self.is_pooled), _tokens(goal, self.is_pooled)
        return (1 - F.cosine_similarity(latents, goal, dim=-1)).mean(-1)


NAMES = ("own", "l1", "l2", "squared_l2", "cosine")


def distance_named(name: str, *, own: Distance, is_pooled: bool = False) -> Distance:
    """Returns a distance by its name in a command line.

    Args:
        name: one of `NAMES`.
        own: that of the world model, which is called "own".
        is_pooled: compare mean tokens.

    Raises:
        ValueError: if there is no such distance, or the model's own should be pooled.
    """
    if name == "own" and is_pooled:
        raise ValueError("the world model's own distance cannot be pooled; take l1, l2 or cosine")
    distances: dict[str, Distance] = {
        "own": own,
        "l1": L1(is_pooled),
        "l2": L2(is_pooled),
        "squared_l2": L2(is_pooled, is_squared=True),
        "cosine": Cosine(is_pooled),
    }
    if name not in distances:
        raise ValueError(f"distance must be one of {', '.join(NAMES)}, got {name!r}")
    return distances[name]


def _tokens(latents: Tensor, is_pooled: bool) -> Tensor:
    return latents.mean(-2, keepdim=True) if is_pooled else latents


def _difference(latents: Tensor, goal: Tensor, is_pooled: bool) -> Tensor:
    """Returns latents minus goal, (..., tokens, dim); one token if they are pooled."""
    difference = latents - goal
    return difference.mean(-2, keepdim=True) if is_pooled else difference
