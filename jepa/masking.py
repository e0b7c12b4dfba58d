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

MAX_DRAWS = 100  # of one clip's blocks, before `ReferenceMultiBlock` gives up


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
    and then cuts ids to the shortest of the batch, which drops the latest frames: see
    `ReferenceMultiBlock`.)

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


class ReferenceMultiBlock(MaskSampler):
    """Hides blocks as the sampler of the released V-JEPA models does, id for id.

    For parity with the released sampler; `MultiBlock` is the one to train with. What differs:
    one block size is drawn for the whole batch, so clips hide unequal shares where their blocks
    overlap; then context and target ids are each cut to the shortest clip of the batch. That drops
    the latest tokens: with the released settings 23-29 % are neither context nor target, and the
    loss looks at early times more than at late ones.

    Source: V-JEPA (arXiv:2404.08471), Sec. 3.2, and the masks of the released code. The paper's
    short-range masks are 8 blocks of 0.15, its long-range masks 2 blocks of 0.7.

    Args:
        num_blocks: blocks per clip, at least 1.
        spatial_scale: share of the places of a frame that one block covers, in (0, 1]: a number,
            or the (low, high) range that it is drawn from, uniformly.
        temporal_scale: share of the clip's time that a block goes through, in (0, 1]: the same.
        aspect_ratio: range of height over width of the block, drawn from uniformly.
        max_temporal_keep: share of the clip's time that may be shown, in (0, 1]; what comes later
            is hidden whole, and asked for. At least one time is shown.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 8,
        spatial_scale: float | tuple[float, float] = 0.15,
        temporal_scale: float | tuple[float, float] = 1.0,
        aspect_ratio: tuple[float, float] = (0.75, 1.5),
        max_temporal_keep: float = 1.0,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        if not 0 < aspect_ratio[0] <= aspect_ratio[1]:
            raise ValueError(f"aspect_ratio must be 0 < low <= high, got {aspect_ratio}")
        if not 0 < max_temporal_keep <= 1:
            raise ValueError(f"max_temporal_keep must be in (0, 1], got {max_temporal_keep}")
        self.num_blocks = num_blocks
        self.spatial_scale = _scale_range("spatial_scale", spatial_scale)
        self.temporal_scale = _scale_range("temporal_scale", temporal_scale)
        self.aspect_ratio = aspect_ratio
        self.max_temporal_keep = max_temporal_keep

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`; the generator draws the block size, then the positions."""
        return self.draw(batch, grid, size_generator=generator, position_generator=generator)

    def draw(
        self,
        batch: int,
        grid: tuple[int, int, int],
        *,
        size_generator: Generator,
        position_generator: Generator,
    ) -> Mask:
        """Draws masks from two generators, as the released code does.

        There the n-th call (from 0) draws its block size from a CPU generator seeded with n, and
        the positions from the global one. Ids equal the released ones for generators on the CPU.

        Args:
            batch: number of clips, at least 1.
            grid: (time, height, width) of a clip in tokens.
            size_generator: gives three uniforms: for the block's time, space and aspect ratio.
            position_generator: gives three integers a block: top, left and first time; its device
                is where the ids are made.

        Returns:
            Mask with ids on the device of `position_generator`.

        Raises:
            ValueError: if a block is smaller than a token, or if blocks left nothing to show in
                each of 100 draws.
        """
        block = self._block_size(grid, size_generator)
        is_visible = [self._is_visible(grid, block, position_generator) for _ in range(batch)]
        return Mask(
            context_ids=_cut_to_the_shortest([clip.nonzero().flatten() for clip in is_visible]),
            target_ids=_cut_to_the_shortest([(~clip).nonzero().flatten() for clip in is_visible]),
        )

    def _block_size(self, grid: tuple[int, int, int], generator: Generator) -> tuple[int, int, int]:
        """(time, height, width) in tokens of every block of a batch."""
        time, height, width = grid
        uniforms = torch.rand(3, generator=generator, device=generator.device).tolist()
        ranges = (self.temporal_scale, self.spatial_scale, self.aspect_ratio)
        long, share, ratio = (
            low + uniform * (high - low)
            for uniform, (low, high) in zip(uniforms, ranges, strict=True)
        )
        places = int(height * width * share)
        block = (
            min(max(int(time * long), 1), time),
            min(round(math.sqrt(places * ratio)), height),
            min(round(math.sqrt(places / ratio)), width),
        )
        if min(block) < 1:
            raise ValueError(
                f"a block of {block} (time, height, width) hides nothing in grid {grid}; raise "
                "spatial_scale or take larger frames"
            )
        return block

    def _is_visible(
        self, grid: tuple[int, int, int], block: tuple[int, int, int], generator: Generator
    ) -> Tensor:
        """Where one clip is shown: (time * height * width,) bool, True somewhere."""
        max_shown_times = max(1, int(grid[0] * self.max_temporal_keep))
        for _ in range(MAX_DRAWS):
            is_visible = ~_union_of_blocks(grid, block, self.num_blocks, generator)
            is_visible[max_shown_times:] = False
            if is_visible.any():
                return is_visible.flatten()
        raise ValueError(
            f"num_blocks={self.num_blocks} of {block} (time, height, width) left nothing to show "
            f"of grid {grid} in {MAX_DRAWS} draws; lower num_blocks or spatial_scale"
        )


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


def _scale_range(name: str, scale: float | tuple[float, float]) -> tuple[float, float]:
    """The (low, high) that a number or a range means."""
    low, high = scale if isinstance(scale, (tuple, list)) else (scale, scale)
    if not 0 < low <= high <= 1:
        raise ValueError(f"{name} must be in (0, 1], or 0 < low <= high <= 1, got {scale}")
    return low, high


def _union_of_blocks(
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    num_blocks: int,
    generator: Generator,
) -> Tensor:
    """Where blocks of one size at random positions lie: (time, height, width) bool."""

    def start(axis: int) -> int:
        free = grid[axis] - block[axis] + 1
        return int(torch.randint(free, (1,), generator=generator, device=generator.device))

    is_covered = torch.zeros(grid, dtype=torch.bool, device=generator.device)
    for _ in range(num_blocks):
        # In the released order, also where there is one choice only: each draw moves the generator.
        top, left, first = start(1), start(2), start(0)
        is_covered[first : first + block[0], top : top + block[1], left : left + block[2]] = True
    return is_covered


def _cut_to_the_shortest(ids: list[Tensor]) -> Tensor:
    """Stacks ascending ids of unequal lengths; the last ones of the longer are lost."""
    shortest = min(len(of_clip) for of_clip in ids)
    return torch.stack([of_clip[:shortest] for of_clip in ids])
