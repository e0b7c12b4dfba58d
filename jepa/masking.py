"""What is hidden and what is shown: masks are part of the question that the objective asks.

Masks are drawn on the model's device from a generator that the training step passes in, so a
resumed run hides the same tokens as an uninterrupted one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Mask(NamedTuple):
    """Token ids, flat over (time, height, width), ascending; the two never overlap.

    Attributes:
        context_ids: (batch, context), shown to the encoder.
        target_ids: (batch, targets), asked of the predictor.
    """

    context_ids: Tensor
    target_ids: Tensor


class MaskSampler(ABC):
    """Draws one mask per clip; all clips of a batch have the same number of context tokens."""

    @abstractmethod
    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """Draws masks.

        Args:
            batch: number of clips.
            grid: (time, height, width) of a clip in tokens.
            generator: its device is where the ids are made.

        Returns:
            Mask with ids on the generator's device.

        Raises:
            ValueError: if the grid is too small to show something and hide something.
        """


class MultiBlock(MaskSampler):
    """Hides blocks of space through all of time (V-JEPA, arXiv:2404.08471, Sec. 3.2).

    Block centres and one aspect ratio a clip are drawn at random; then all blocks of a clip grow
    together until exactly `target_fraction` of the places is hidden. So every token is either
    context or target, in every clip and at every time. (The released sampler fixes the block size
    and then cuts ids to the shortest of the batch, which drops the latest frames.)

    Args:
        num_blocks: blocks per clip: 8 for the paper's short-range masks, 2 for long-range ones.
        target_fraction: share of the places that is hidden, in (0, 1).
        aspect_ratio: range of height over width of the blocks.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 8,
        target_fraction: float = 0.75,
        aspect_ratio: tuple[float, float] = (0.75, 1.5),
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        if not 0 < target_fraction < 1:
            raise ValueError(f"target_fraction must be in (0, 1), got {target_fraction}")
        if not 0 < aspect_ratio[0] <= aspect_ratio[1]:
            raise ValueError(f"aspect_ratio must be 0 < low <= high, got {aspect_ratio}")
        self.num_blocks = num_blocks
        self.target_fraction = target_fraction
        self.aspect_ratio = aspect_ratio

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`."""
        _, height, width = grid
        if height * width < 2:
            raise ValueError(f"MultiBlock masks need at least 2 places a frame, got grid {grid}")
        distance = self._distance_to_blocks(batch, height, width, generator)
        num_hidden = round(self.target_fraction * height * width)
        num_hidden = min(max(num_hidden, 1), height * width - 1)
        order = distance.flatten(1).argsort(dim=1)
        return Mask(
            context_ids=_through_time(order[:, num_hidden:], grid),
            target_ids=_through_time(order[:, :num_hidden], grid),
        )

    def _distance_to_blocks(
        self, batch: int, height: int, width: int, generator: Generator
    ) -> Tensor:
        """Size at which a growing block first covers each place: (batch, height, width)."""
        device = generator.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        low, high = self.aspect_ratio
        log_ratio = uniform(batch, 1, 1, 1) * math.log(high / low) + math.log(low)
        stretch = torch.exp(log_ratio / 2)  # root of the blocks' height over width
        centers = uniform(2, batch, self.num_blocks, 1, 1)
        y = torch.arange(height, device=device).view(-1, 1) + 0.5
        x = torch.arange(width, device=device).view(1, -1) + 0.5
        dy = (y - centers[0] * height).abs() / stretch  # (batch, blocks, height, 1)
        dx = (x - centers[1] * width).abs() * stretch  # (batch, blocks, 1, width)
        distance = torch.maximum(dy, dx).amin(1)
        return distance + 1e-4 * uniform(batch, height, width)  # ties fall at random


class Future(MaskSampler):
    """Shows the first frames and asks for all the later ones: what comes next?

    Args:
        context_fraction: share of the clip's time that is shown, in (0, 1).
    """

    def __init__(self, *, context_fraction: float = 0.5) -> None:
        if not 0 < context_fraction < 1:
            raise ValueError(f"context_fraction must be in (0, 1), got {context_fraction}")
        self.context_fraction = context_fraction

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`; the same for all clips."""
        time, height, width = grid
        if time < 2:
            raise ValueError(f"Future masks need at least 2 tokens in time, got {time}")
        shown = min(max(round(self.context_fraction * time), 1), time - 1) * height * width
        ids = torch.arange(time * height * width, device=generator.device).expand(batch, -1)
        return Mask(context_ids=ids[:, :shown], target_ids=ids[:, shown:])


def mask_generator(seed: int, step: int, rank: int, *, device: torch.device) -> Generator:
    """Returns the generator of one training step on one rank: a pure function of its arguments."""
    mixed = (seed * 1_000_003 + step) * 65_537 + rank
    return Generator(device=device).manual_seed(mixed % 2**63)


def _through_time(places: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Repeats spatial places (batch, places) at every time: ascending flat ids."""
    time, height, width = grid
    frames = torch.arange(time, device=places.device) * (height * width)
    ids = frames.view(1, -1, 1) + places.sort(dim=1).values.unsqueeze(1)
    return ids.flatten(1)
