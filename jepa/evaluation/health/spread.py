"""How far tokens are spread: over clips, over places, and on the unit sphere."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 2.0  # t of the uniformity, as in the paper
MAX_PAIRED_ROWS = 1024  # a million pairs


class VarianceShares(NamedTuple):
    """Where the variance of tokens comes from; scalars.

    Attributes:
        relative_std: standard deviation of all tokens over their root mean square, in [0, 1]: 0 if
            all are equal, 1 if they are centred.
        clips: share of the variance that is between clips, at the same place, in [0, 1]: 0 if all
            clips have the same tokens.
        places: share of the variance that is between places of a clip, in [0, 1]: 0 if all tokens
            of a clip are equal.
    """

    relative_std: Tensor
    clips: Tensor
    places: Tensor


@torch.no_grad()
def variance_shares(tokens: Tensor) -> VarianceShares:
    """Returns where the variance of tokens (clips, places, dim) comes from.

    A token varies with its clip, with its place, and with both together; what varies with both
    counts for both, so the two shares sum up to more than 1.

    Raises:
        ValueError: if the layout is another one.
    """
    if tokens.ndim != 3:
        raise ValueError(f"tokens must be (clips, places, dim), got {tuple(tokens.shape)}")
    tokens = tokens.double()
    total = tokens.var((0, 1), correction=0).sum()
    square = tokens.square().mean((0, 1)).sum()
    along = [tokens.var(axis, correction=0).mean(0).sum() for axis in (0, 1)]
    relative_std = (total / square.clamp_min(1e-24)).sqrt()
    shares = [variance / total.clamp_min(1e-24) for variance in along]
    return VarianceShares(*(value.float() for value in (relative_std, *shares)))


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Returns the mean squared distance of two views on the unit sphere.

    Wang & Isola 2020 (arXiv:2005.10242), Sec. 4, with exponent 2.

    Args:
        first: (rows, dim).
        second: (rows, dim), another view of the same clips.

    Returns:
        A scalar in [0, 4]; 0 if views of a clip agree.
    """
    return (_on_sphere(first) - _on_sphere(second)).square().sum(-1).mean()


@torch.no_grad()
def uniformity(features: Tensor) -> Tensor:
    """Returns log mean exp(-2 |x - y|^2) over pairs on the unit sphere (Wang & Isola 2020, Sec. 4).

    Args:
        features: (rows, dim); of more than 1024, as many are taken.

    Returns:
        A scalar in [-8, 0]; 0 if all are equal, lower if they are spread. Not a number for fewer
        than 2 rows.
    """
    rows = _on_sphere(features[:: -(-len(features) // MAX_PAIRED_ROWS) or 1])
    if len(rows) < 2:
        return features.new_tensor(float("nan"))
    squares = torch.pdist(rows).square()
    return torch.logsumexp(-TEMPERATURE * squares, 0) - torch.tensor(float(len(squares))).log()


def _on_sphere(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)
