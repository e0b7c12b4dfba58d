"""Blocks of space through time, with exact shares: the masks to train with."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from jepa.masking.base import (
    Mask,
    MaskSampler,
    count_of,
    ids_where,
    is_lowest,
    refuse_wrong_fraction,
    refuse_wrong_range,
    refuse_wrong_size,
    through_time,
)
from jepa.masking.growing_blocks import covering_sizes, draw_stretches


class MultiBlock(MaskSampler):
    """Hides blocks of space through all of time (V-JEPA, arXiv:2404.08471, Sec. 3.2).

    Block centres and one aspect ratio a clip are drawn at random; then all blocks of a clip grow
    together until exactly `target_fraction` of the places is hidden. So every token is either
    context or target, in every clip, and every time is asked for as often as any other. (The
    released sampler fixes the block size and then cuts ids to the shortest of the batch, which
    drops the latest frames: see `ReferenceMultiBlock`.)

    Args:
        num_blocks: blocks per clip: 8 for the paper's short-range masks, 2 for long-range ones.
        target_fraction: share of the places that is hidden, in (0, 1).
        aspect_ratio: range of height over width of the blocks.
        temporal_fraction: share of the clip's time that the blocks go through, in (0, 1]; at the
            other times everything is shown. Each clip has its own first time, and blocks that
            reach the end go on at the beginning: a window that stayed inside would ask less for
            the first and the last times.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 8,
        target_fraction: float = 0.75,
        aspect_ratio: tuple[float, float] = (0.75, 1.5),
        temporal_fraction: float = 1.0,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        refuse_wrong_fraction("target_fraction", target_fraction)
        refuse_wrong_range("aspect_ratio", aspect_ratio)
        if not 0 < temporal_fraction <= 1:
            raise ValueError(f"temporal_fraction must be in (0, 1], got {temporal_fraction}")
        self.num_blocks = num_blocks
        self.target_fraction = target_fraction
        self.aspect_ratio = aspect_ratio
        self.temporal_fraction = temporal_fraction

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`."""
        refuse_wrong_size(batch, grid)
        time, height, width = grid
        if height * width < 2:
            raise ValueError(f"MultiBlock masks need at least 2 places a frame, got grid {grid}")
        num_hidden = count_of(self.target_fraction, height * width)
        is_hidden = self._hidden_places(batch, (height, width), num_hidden, generator)
        hidden = ids_where(is_hidden, num_hidden)
        num_times = max(round(self.temporal_fraction * time), 1)
        if num_times < time:
            return _through_some_times(hidden, num_times, grid, generator)
        shown = ids_where(~is_hidden, height * width - num_hidden)
        return Mask(context_ids=through_time(shown, grid), target_ids=through_time(hidden, grid))

    def _hidden_places(
        self, batch: int, frame: tuple[int, int], num_hidden: int, generator: Generator
    ) -> Tensor:
        """Where blocks lie: (batch, height * width) bool."""
        height, width = frame
        stretches = draw_stretches(batch, self.aspect_ratio, generator=generator)
        shape = (2, batch, self.num_blocks)
        centers = torch.rand(shape, generator=generator, device=generator.device)
        centers[0] *= height
        centers[1] *= width
        sizes = covering_sizes(centers, stretches, frame, generator=generator)
        return is_lowest(sizes, num_hidden)


def _through_some_times(
    places: Tensor, num_times: int, grid: tuple[int, int, int], generator: Generator
) -> Mask:
    """Asks for places (batch, places) at successive times that begin anywhere; shows the rest."""
    time, height, width = grid
    tokens = time * height * width
    batch, num_places = places.shape
    device = generator.device
    first = torch.randint(time, (batch, 1), generator=generator, device=device)
    times = (first + torch.arange(num_times, device=device)) % time
    targets = (times.unsqueeze(2) * (height * width) + places.unsqueeze(1)).flatten(1)
    is_target = torch.zeros((batch, tokens), dtype=torch.bool, device=device)
    is_target.scatter_(1, targets, True)
    num_targets = num_times * num_places
    return Mask(
        context_ids=ids_where(~is_target, tokens - num_targets),
        target_ids=ids_where(is_target, num_targets),
    )
