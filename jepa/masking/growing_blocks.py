"""Blocks that grow together from their centres: how `MultiBlock` and its like hide exact shares."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def draw_stretches(
    batch: int, aspect_ratio: tuple[float, float], *, generator: Generator
) -> Tensor:
    """Draws one aspect ratio a clip, uniform in its logarithm.

    Args:
        batch: number of clips.
        aspect_ratio: (low, high) of height over width.
        generator: draws `batch` numbers.

    Returns:
        (batch,): roots of height over width.
    """
    low, high = aspect_ratio
    uniform = torch.rand((batch,), generator=generator, device=generator.device)
    return torch.exp((uniform * math.log(high / low) + math.log(low)) / 2)


def covering_sizes(
    centers: Tensor, stretches: Tensor, frame: tuple[int, int], *, generator: Generator
) -> Tensor:
    """Returns the size at which growing blocks first cover each place.

    Args:
        centers: (2, batch, blocks): y and x of the blocks' centres, in tokens.
        stretches: (batch,): root of the blocks' height over width.
        frame: (height, width) in tokens.
        generator: lets ties fall at random.

    Returns:
        (batch, height * width): half the side, in tokens, that a square block of the same area
        has when it reaches the place.
    """
    height, width = frame
    device = generator.device
    y = torch.arange(height, device=device).view(-1, 1) + 0.5
    x = torch.arange(width, device=device).view(1, -1) + 0.5
    stretch = stretches.view(-1, 1, 1, 1)
    dy = (y - centers[0, :, :, None, None]).abs() / stretch  # (batch, blocks, height, 1)
    dx = (x - centers[1, :, :, None, None]).abs() * stretch  # (batch, blocks, 1, width)
    size = torch.maximum(dy, dx).amin(1)  # (batch, height, width): the first block counts
    ties = torch.rand(size.shape, generator=generator, device=device)
    return (size + 1e-4 * ties).flatten(1)
