"""Where a token is: rotary tables for attention, or sine-cosine embeddings added to tokens.

One class for encoders and predictors, so that a checkpoint's style is said once, in its config.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.rope import axis_dim, grid_coordinates, rope_angles, rotation
from jepa.models.settings import refuse_wrong_counts

PositionStyle = Literal["rope_interleaved", "rope_tiled", "sincos_3d", "sincos_2d"]
Grid = tuple[int, int, int]


class Positions(nn.Module):
    """Tells tokens where they are, in one of four styles.

    rope_interleaved: rotary (V-JEPA 2.1; trained here). rope_tiled: the tables of V-JEPA 2 and 2-AC
    (see `jepa.models.rope`). sincos_3d: fixed embeddings of V-JEPA, interpolated for other grids.
    sincos_2d: those of I-JEPA, for images.

    Args:
        style: one of the four.
        dim: width of a token.
        num_heads: attention heads; with rotary styles dim / num_heads must be even and at least 12.
        grid: (time, height, width) in tokens that the model was made for; sincos tables have it.
        rope_grid: side in tokens to which height and width coordinates are stretched, whatever the
            size of the video (V-JEPA 2.1: 16); None: coordinates are token indices.

    Raises:
        ValueError: if the style is none of these, or does not fit the other arguments.
    """

    table: Tensor

    def __init__(
        self,
        style: PositionStyle,
        *,
        dim: int,
        num_heads: int,
        grid: Grid | None,
        rope_grid: int | None = None,
    ) -> None:
        super().__init__()
        if style not in get_args(PositionStyle):
            raise ValueError(
                f"positions must be one of {', '.join(get_args(PositionStyle))}; got {style!r}"
            )
        refuse_wrong_counts(dim=dim, num_heads=num_heads)
        if rope_grid is not None:
            refuse_wrong_counts(rope_grid=rope_grid)
        if grid is not None:
            grid = checked_grid(grid)
        if dim % num_heads:
            raise ValueError(f"dim={dim} must be divisible by num_heads={num_heads}")
        self.style, self.head_dim, self.rope_grid = style, dim // num_heads, rope_grid
        self.is_rotary = style.startswith("rope")
        self.made_for = grid
        if self.is_rotary:
            axis_dim(self.head_dim)  # refuses a head that cannot be rotated now, not in forward
            return
        if rope_grid is not None:
            raise ValueError(f"rope_grid={rope_grid} is for rotary positions, not {style}")
        if grid is None:
            raise ValueError(f"{style} positions need the grid that they are made for")
        if style == "sincos_2d" and grid[0] != 1:
            raise ValueError(f"sincos_2d positions are for one frame, got grid {grid}")
        table = sincos_3d(grid, dim) if style == "sincos_3d" else sincos_2d(grid[1:], dim)
        self.register_buffer("table", table.float())  # saved: a checkpoint may hold others

    def forward(
        self, tokens: Tensor, grid: Grid, *, token_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Places tokens.

        Args:
            tokens: (batch, tokens, dim).
            grid: (time, height, width) in tokens that ids count in.
            token_ids: (batch, tokens) place of each, flat over the grid; None: all, in order.

        Returns:
            The tokens, with their embeddings added if the style is sincos; and the table for
            `jepa.models.rope.rotate`, None if the style is sincos.
        """
        if not self.is_rotary:
            embeddings = self._table_for(grid).to(tokens.dtype)  # (all tokens, dim)
            return tokens + (embeddings if token_ids is None else embeddings[token_ids]), None
        places = grid_coordinates(grid, tokens.device)
        return tokens, self.rotation(self.stretch(places, grid), token_ids=token_ids)

    def rotation(self, places: Tensor, *, token_ids: Tensor | None = None) -> Tensor:
        """Returns the rotary table of places (tokens, 3), all or those of ids (batch, tokens)."""
        if token_ids is not None:
            places = places[token_ids]
        style = "tiled" if self.style == "rope_tiled" else "interleaved"
        return rotation(rope_angles(places, head_dim=self.head_dim, style=style))

    def stretch(self, places: Tensor, grid: Grid) -> Tensor:
        """Stretches height and width of places (..., 3) so that the last is rope_grid - 1."""
        if self.rope_grid is None:
            return places
        sides = [(self.rope_grid - 1) / max(side - 1, 1) for side in grid[1:]]
        return places * places.new_tensor([1.0, *sides])

    def _table_for(self, grid: Grid) -> Tensor:
        """Returns embeddings (tokens, dim) of a grid, cut or interpolated from the table."""
        assert self.made_for is not None
        if grid == self.made_for:
            return self.table
        time, *sides = self.made_for
        if tuple(sides) == grid[1:] and grid[0] <= time:  # as the released code does: no blur
            return self.table[: math.prod(grid)]
        volume = self.table.T.unflatten(1, self.made_for).unsqueeze(0)  # (1, dim, t, h, w)
        if self.style == "sincos_2d":
            if grid[0] != 1:
                raise ValueError(f"sincos_2d positions are for one frame, got grid {grid}")
            image = F.interpolate(volume[:, :, 0], size=grid[1:], mode="bicubic")
            return image.squeeze(0).flatten(1).T
        return F.interpolate(volume, size=grid, mode="trilinear").squeeze(0).flatten(1).T


def checked_grid(grid: Sequence[int]) -> Grid:
    """Returns (time, height, width), of what JSON may have made a list.

    Raises:
        ValueError: if these are not three whole numbers above 0.
    """
    if not isinstance(grid, (list, tuple)) or len(grid) != 3:
        raise ValueError(f"grid must be (time, height, width) in tokens, got {grid!r}")
    time, height, width = grid
    refuse_wrong_counts(grid_time=time, grid_height=height, grid_width=width)
    return time, height, width


def refuse_wrong_ids(grid: Grid, **ids: Tensor) -> None:
    """Raises ValueError unless all ids are places of tokens in a grid.

    Their range is looked at on the CPU only: on a GPU the look would wait for all that is queued
    there, at every step. There torch's own assertion finds most of those that are too large.

    Args:
        grid: (time, height, width) in tokens.
        ids: integers of any shape, by the names of the arguments.
    """
    num_places = math.prod(grid)
    for name, value in ids.items():
        if value.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"{name} must be int64, got {value.dtype}")
        if value.device.type != "cpu" or torch.compiler.is_compiling() or not value.numel():
            continue
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= num_places:
            raise ValueError(
                f"{name} must be 0 to {num_places - 1}, places in a grid of {tuple(grid)} tokens, "
                f"got {low} to {high}"
            )


def sincos_2d(grid: tuple[int, int], dim: int) -> Tensor:
    """Returns fixed embeddings (tokens, dim) of images: half for width, half for height.

    In the order of the released I-JEPA weights (arXiv:2301.08243), where the width comes first.

    Raises:
        ValueError: if dim is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sincos_2d positions need dim to be a multiple of 4, got {dim}")
    places = grid_coordinates((1, *grid)).double()
    return torch.cat([_sincos(places[:, axis], dim // 2) for axis in (2, 1)], dim=1)


def sincos_3d(grid: Grid, dim: int) -> Tensor:
    """Returns fixed embeddings (tokens, dim) of videos: a third each for time, height and width.

    As in the released V-JEPA models (arXiv:2404.08471, Sec. 3.3): each axis gets the next multiple
    of 2 above a third, and the end is cut off.

    Raises:
        ValueError: if dim is odd.
    """
    if dim % 2:
        raise ValueError(f"sincos_3d positions need an even dim, got {dim}")
    places = grid_coordinates(grid).double()
    per_axis = 2 * math.ceil(dim / 6)
    return torch.cat([_sincos(places[:, axis], per_axis) for axis in range(3)], dim=1)[:, :dim]


def _sincos(places: Tensor, dim: int) -> Tensor:
    """Returns (tokens, dim): sines, then cosines, of falling frequencies."""
    index = torch.arange(dim // 2, dtype=torch.float64)
    angles = places[:, None] / 10_000 ** (index / (dim / 2))
    return torch.cat((angles.sin(), angles.cos()), dim=1)
