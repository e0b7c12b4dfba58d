"""A few blocks to predict inside a large block that is shown: the masks of images."""

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


class ImageMultiBlock(MaskSampler):
    """Asks for a few blocks, and shows what they leave of one large square (I-JEPA).

    Source: I-JEPA (arXiv:2301.08243), Sec. 3: four target blocks of 0.15 to 0.2 of the image, and
    a context block of 0.85 to 1 of it, less the targets. Its sampler, before it cuts ids to the
    shortest of the batch, asks for 0.45 of the places and shows 0.43 (the defaults here).

    Deviations, all for counts that are exact in every batch: the target blocks of an image grow
    together until they cover `target_fraction`; the context is the smallest square around its
    random centre that holds `context_fraction` outside of them. And the targets are asked for
    together, in one pass of the predictor, where I-JEPA asks for one block at a time and so counts
    a place twice that two blocks cover.

    Args:
        num_blocks: target blocks per image, at least 1.
        target_fraction: share of the places that all blocks together cover, in (0, 1).
        context_fraction: share of the places that is shown, in (0, 1); with `target_fraction` at
            most 1.
        aspect_ratio: range of height over width of the target blocks, one an image.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 4,
        target_fraction: float = 0.45,
        context_fraction: float = 0.43,
        aspect_ratio: tuple[float, float] = (0.75, 1.5),
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        refuse_wrong_fraction("target_fraction", target_fraction)
        refuse_wrong_fraction("context_fraction", context_fraction)
        if target_fraction + context_fraction > 1 + 1e-9:  # 0.7 + 0.3 is a little more than 1
            raise ValueError(
                f"target_fraction={target_fraction} and context_fraction={context_fraction} must "
                f"not exceed 1 together; lower one of them"
            )
        refuse_wrong_range("aspect_ratio", aspect_ratio)
        self.num_blocks = num_blocks
        self.target_fraction = target_fraction
        self.context_fraction = context_fraction
        self.aspect_ratio = aspect_ratio

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`; clips of several times hide the same places at each."""
        refuse_wrong_size(batch, grid)
        num_places = grid[1] * grid[2]
        if num_places < 2:
            raise ValueError(
                f"ImageMultiBlock masks need at least 2 places a frame, got grid {grid}"
            )
        num_targets = count_of(self.target_fraction, num_places)
        num_shown = min(count_of(self.context_fraction, num_places), num_places - num_targets)
        is_target = self._target_places(batch, (grid[1], grid[2]), num_targets, generator)
        is_shown = self._shown_places((grid[1], grid[2]), is_target, num_shown, generator)
        return Mask(
            context_ids=through_time(ids_where(is_shown, num_shown), grid),
            target_ids=through_time(ids_where(is_target, num_targets), grid),
        )

    def _target_places(
        self, batch: int, frame: tuple[int, int], num_targets: int, generator: Generator
    ) -> Tensor:
        """Where target blocks lie: (batch, height * width) bool."""
        stretches = draw_stretches(batch, self.aspect_ratio, generator=generator)
        # The share of each block, were the blocks laid independently.
        share = 1 - (1 - self.target_fraction) ** (1 / self.num_blocks)
        centers = _centers_inside(frame, share, stretches, self.num_blocks, generator)
        sizes = covering_sizes(centers, stretches, frame, generator=generator)
        return is_lowest(sizes, num_targets)

    def _shown_places(
        self, frame: tuple[int, int], is_target: Tensor, num_shown: int, generator: Generator
    ) -> Tensor:
        """What the targets leave of a large square: (batch, height * width) bool."""
        square = torch.ones(len(is_target), device=generator.device)
        share = min(self.target_fraction + self.context_fraction, 1.0)
        center = _centers_inside(frame, share, square, 1, generator)
        sizes = covering_sizes(center, square, frame, generator=generator)
        sizes.masked_fill_(is_target, torch.inf)
        return is_lowest(sizes, num_shown)


def _centers_inside(
    frame: tuple[int, int],
    share: float,
    stretches: Tensor,
    num_blocks: int,
    generator: Generator,
) -> Tensor:
    """Draws centres around which blocks of a share of the frame lie inside: (2, batch, blocks).

    Along an axis that is too short for the block, the centre is that of the frame.
    """
    uniform = torch.rand(
        (2, len(stretches), num_blocks), generator=generator, device=generator.device
    )
    side = (share * frame[0] * frame[1]) ** 0.5
    heights = (side * stretches).clamp(max=frame[0]).unsqueeze(1)
    widths = (side / stretches).clamp(max=frame[1]).unsqueeze(1)
    y = heights / 2 + uniform[0] * (frame[0] - heights)
    x = widths / 2 + uniform[1] * (frame[1] - widths)
    return torch.stack((y, x))
