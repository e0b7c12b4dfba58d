"""Tokens that say nothing: dead ones, which no input changes, and copies of one another."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.training.collapse import at_most

DEAD_SHARE = 0.01  # of the tokens' standard deviation: a place that varies less is dead
DUPLICATE_SHARE = 0.05  # of the usual distance of two tokens: closer ones are copies
MAX_PLACES = 64  # of a clip: 2016 pairs


@torch.no_grad()
def dead_tokens(tokens: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Returns the share of places whose token no clip changes.

    Args:
        tokens: (clips, places, dim).
        inputs: (clips, places, values), the pixels of each place: places where all clips look the
            same are not asked. None: all places are.

    Returns:
        A scalar in [0, 1]; not a number if no place is asked.
    """
    tokens = tokens.double()
    usual = tokens.var((0, 1), correction=0).mean().sqrt()
    std = tokens.var(0, correction=0).mean(-1).sqrt()  # (places,)
    is_dead = std <= DEAD_SHARE * usual
    if inputs is not None:
        is_dead = is_dead[inputs.double().var(0, correction=0).mean(-1) > 0]
    return is_dead.float().mean()


@torch.no_grad()
def duplicate_tokens(tokens: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Returns the share of pairs of places in one clip whose tokens hardly differ.

    Hardly: by less than a twentieth of the root mean squared distance of two tokens of any clips.

    Args:
        tokens: (clips, places, dim); of more than 64 places, as many are taken.
        inputs: (clips, places, values), the pixels of each place: pairs that look exactly alike are
            not asked. None: all pairs are.

    Returns:
        A scalar in [0, 1]; not a number if no pair is asked.
    """
    usual = (2 * tokens.double().var((0, 1), correction=0).sum()).sqrt()
    tokens = _some_places(tokens)
    first, second = torch.triu_indices(tokens.shape[1], tokens.shape[1], offset=1)
    near = _distances(tokens)[:, first, second] <= DUPLICATE_SHARE * usual
    if inputs is not None:
        near = near[_distances(_some_places(inputs))[:, first, second] > 0]
    return near.float().mean()


def _some_places(tokens: Tensor) -> Tensor:
    return at_most(MAX_PLACES, tokens.transpose(0, 1)).transpose(0, 1).double()


def _distances(tokens: Tensor) -> Tensor:
    """Euclidean distances (clips, places, places), exact where tokens are equal."""
    return torch.cdist(tokens, tokens, compute_mode="donot_use_mm_for_euclid_dist")
