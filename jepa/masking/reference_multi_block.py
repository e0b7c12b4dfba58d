"""The masks of the released V-JEPA models, id for id."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor

from jepa.masking.base import Mask, MaskSampler, ids_where, refuse_wrong_range, refuse_wrong_size

MAX_DRAWS = 100  # of the blocks of clips that were left nothing to show


class ReferenceMultiBlock(MaskSampler):
    """Hides blocks as the sampler of the released V-JEPA models does, id for id.

    For parity with the released sampler; `MultiBlock` is the one to train with. What differs:
    one block size is drawn for the whole batch, so clips hide unequal shares where their blocks
    overlap; then context and target ids are each cut to the shortest clip of the batch. That drops
    the latest tokens: with the released settings 23-29 % are neither context nor target, and the
    loss looks at early times more than at late ones. The sizes of the result depend on what was
    drawn: at least three times a call, numbers are read back from the generator's device.

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
        max_context_tokens: most tokens that are shown, at least 1 (released: max_keep). None: no
            limit.
        complement: "targets" asks for all that is not shown after the cut (released:
            full_complement); "context" shows all that is not asked for after the cut (released:
            pred_full_complement). None: what was cut is lost.
        inverted: shows the blocks, and asks for the rest (released: inv_block).

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
        max_context_tokens: int | None = None,
        complement: Literal["targets", "context"] | None = None,
        inverted: bool = False,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, got {num_blocks}")
        refuse_wrong_range("aspect_ratio", aspect_ratio)
        if not 0 < max_temporal_keep <= 1:
            raise ValueError(f"max_temporal_keep must be in (0, 1], got {max_temporal_keep}")
        if max_context_tokens is not None and max_context_tokens < 1:
            raise ValueError(
                f"max_context_tokens must be at least 1, or null, got {max_context_tokens}"
            )
        if complement not in (None, "targets", "context"):
            raise ValueError(f"complement must be targets, context or null, got {complement!r}")
        self.num_blocks = num_blocks
        self.spatial_scale = _scale_range("spatial_scale", spatial_scale)
        self.temporal_scale = _scale_range("temporal_scale", temporal_scale)
        self.aspect_ratio = aspect_ratio
        self.max_temporal_keep = max_temporal_keep
        self.max_context_tokens = max_context_tokens
        self.complement = complement
        self.inverted = inverted

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
            ValueError: if the batch or the grid is empty, if a block is smaller than a token, or
                if blocks left nothing to show in each of 100 draws.
        """
        refuse_wrong_size(batch, grid)
        block = self._block_size(grid, size_generator)
        is_visible = self._draw_visible(batch, grid, block, position_generator)
        context, targets = self._cut(is_visible)
        mask = Mask(context_ids=ids_where(*context), target_ids=ids_where(*targets))
        return Mask(*reversed(mask)) if self.inverted else mask

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

    def _draw_visible(
        self,
        batch: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        generator: Generator,
    ) -> Tensor:
        """Where each clip is shown: (batch, time * height * width) bool, True somewhere.

        The released code draws a clip again until it shows something, and then the next one. So the
        clips are the first `batch` ones that show something, in the order in which they are drawn.
        """
        max_shown_times = max(1, int(grid[0] * self.max_temporal_keep))
        kept: list[Tensor] = []
        num_missing = batch
        for _ in range(MAX_DRAWS):
            starts = _draw_starts(num_missing * self.num_blocks, grid, block, generator)
            starts = starts.unflatten(0, (num_missing, self.num_blocks))
            is_visible = ~_union_of_blocks(starts, grid, block)
            is_visible[:, max_shown_times:] = False
            is_visible = is_visible.flatten(1)
            kept.append(is_visible[is_visible.any(1)])
            num_missing -= len(kept[-1])
            if num_missing == 0:
                return torch.cat(kept)
        raise ValueError(
            f"num_blocks={self.num_blocks} of {block} (time, height, width) left nothing to show "
            f"of grid {grid} in {MAX_DRAWS} draws; lower num_blocks or spatial_scale"
        )

    def _cut(self, is_visible: Tensor) -> tuple[tuple[Tensor, int], tuple[Tensor, int]]:
        """Where context and targets are (batch, tokens), and how many of them are in each clip."""
        tokens = is_visible.shape[1]
        fewest, most = torch.stack(is_visible.sum(1).aminmax()).tolist()
        num_context = min(fewest, self.max_context_tokens or fewest)
        context, targets = (is_visible, num_context), (~is_visible, tokens - most)
        if self.complement == "targets":
            return context, (~_first(*context), tokens - num_context)
        if self.complement == "context":
            return (~_first(*targets), most), targets
        return context, targets


def _scale_range(name: str, scale: float | tuple[float, float]) -> tuple[float, float]:
    """The (low, high) that a number or a range means."""
    low, high = scale if isinstance(scale, (tuple, list)) else (scale, scale)
    if not 0 < low <= high <= 1:
        raise ValueError(f"{name} must be in (0, 1], or 0 < low <= high <= 1, got {scale}")
    return low, high


def _draw_starts(
    num_blocks: int,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    generator: Generator,
) -> Tensor:
    """Where blocks begin: (blocks, 3), time, top and left.

    Equal to one `torch.randint(free, (1,))` after another, in the released order: top, left, time.
    """
    free_times, free_rows, free_columns = (
        whole - part + 1 for whole, part in zip(grid, block, strict=True)
    )
    words = _draw_words(3 * num_blocks, generator, last_below=free_times).unflatten(0, (-1, 3))
    return torch.stack(
        (words[:, 2] % free_times, words[:, 0] % free_rows, words[:, 1] % free_columns), dim=1
    )


def _draw_words(count: int, generator: Generator, *, last_below: int) -> Tensor:
    """Draws words of 32 bits: (count,) int64.

    A generator on the CPU makes words of 32 bits. `torch.randint(n, (1,))` takes one, modulo n;
    an int64 over its full range takes two, the upper one first. So that, word for word, no more are
    taken than are asked for, an odd last one is drawn on its own, below `last_below`.
    """
    device = generator.device
    pairs = torch.empty(count // 2, dtype=torch.int64, device=device)
    pairs.random_(-(2**63), None, generator=generator)
    low_bits = 2**32 - 1
    words = torch.stack(((pairs >> 32) & low_bits, pairs & low_bits), dim=1).flatten()
    if count % 2 == 0:
        return words
    last = torch.randint(last_below, (1,), generator=generator, device=device)
    return torch.cat((words, last))


def _union_of_blocks(
    starts: Tensor, grid: tuple[int, int, int], block: tuple[int, int, int]
) -> Tensor:
    """Where blocks of one size lie, given (clips, blocks, 3): (clips, time, height, width) bool."""
    times, rows, columns = (
        _is_between(starts[:, :, axis], block[axis], grid[axis]) for axis in range(3)
    )
    places = (rows.unsqueeze(3) & columns.unsqueeze(2)).flatten(2)  # (clips, blocks, places)
    # How many blocks cover a token is a product of matrices, which holds no (blocks, tokens) array.
    num_covering = times.float().transpose(1, 2) @ places.float()  # (clips, time, places)
    return (num_covering > 0).unflatten(2, grid[1:])


def _is_between(start: Tensor, length: int, size: int) -> Tensor:
    """Which of `size` positions lie in [start, start + length): (clips, blocks, size) bool."""
    position = torch.arange(size, device=start.device)
    start = start.unsqueeze(2)
    return (position >= start) & (position < start + length)


def _first(is_member: Tensor, count: int) -> Tensor:
    """The first `count` members of each row: (batch, tokens) bool."""
    return is_member & (is_member.cumsum(1) <= count)
