"""Latents to pixels: a small network to look with, never to train with.

A JEPA does not predict pixels, so its latents need not hold them. What a decoder of frozen latents
draws is what can be read off them; what it leaves out may not be there, or it may be too small to
find it. The picture of the true latent is therefore the best that one of a prediction can be.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.settings import refuse_wrong_counts

LEAST_GRID = 4  # rows and columns that a picture begins with; fewer tokens are spread over them
LEAST_WIDTH = 16


class PixelDecoder(nn.Module):
    """Draws the frame that latents are of: a map of each token, then convolutions that double.

    Tokens of fewer than 4 x 4 places are mapped together, since one of them stands for all places.

    Args:
        latent_dim: width of a token.
        grid: (height, width) of the tokens.
        image_size: height and width of the pictures, in pixels.
        width: channels at the first, smallest size; halved at each doubling, down to 16.

    Raises:
        ValueError: if a number is not positive.
    """

    mean: Tensor
    std: Tensor
    mean_picture: Tensor

    def __init__(
        self, *, latent_dim: int, grid: tuple[int, int], image_size: int = 64, width: int = 64
    ) -> None:
        super().__init__()
        refuse_wrong_counts(
            latent_dim=latent_dim, rows=grid[0], columns=grid[1], image_size=image_size, width=width
        )
        self.grid, self.image_size = grid, image_size
        self.is_spread = min(grid) < LEAST_GRID
        num_tokens = grid[0] * grid[1]
        self.first_grid = (LEAST_GRID, LEAST_GRID) if self.is_spread else grid
        self.register_buffer("mean", torch.zeros(num_tokens, latent_dim))
        self.register_buffer("std", torch.ones(num_tokens, latent_dim))
        self.register_buffer("mean_picture", torch.full((3, image_size, image_size), 0.5))
        if self.is_spread:
            self.embed = nn.Linear(num_tokens * latent_dim, width * LEAST_GRID**2)
        else:
            self.embed = nn.Linear(latent_dim, width)
        num_doublings = max(0, round(math.log2(image_size / max(self.first_grid))))
        widths = [max(LEAST_WIDTH, width >> step) for step in range(num_doublings + 1)]
        widths[0] = width
        self.blocks = nn.ModuleList(
            [_block(before, after) for before, after in itertools.pairwise(widths)]
        )
        self.to_pixels = nn.Conv2d(widths[-1], 3, kernel_size=3, padding=1)
        nn.init.zeros_(self.to_pixels.weight)  # the first picture is the mean of all
        nn.init.zeros_(self.to_pixels.bias)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def fit_statistics(self, latents: Tensor, pictures: Tensor) -> None:
        """Notes what is to be taken away from latents, and the picture to begin from.

        Args:
            latents: (rows, tokens, dim).
            pictures: (rows, 3, image_size, image_size), in [0, 1].
        """
        self.mean.copy_(latents.mean(0))
        # One scale for all: a dimension that hardly varies is noise and shall not be blown up.
        self.std.fill_(latents.sub(latents.mean(0)).square().mean().sqrt().clamp_min(1e-8).item())
        self.mean_picture.copy_(pictures.mean(0))

    def forward(self, latents: Tensor) -> Tensor:
        """Draws.

        Args:
            latents: (batch, tokens, dim).

        Returns:
            (batch, 3, image_size, image_size); in [0, 1] but for what the network overshoots.

        Raises:
            ValueError: if there are other tokens.
        """
        if latents.shape[1:] != self.mean.shape:
            expected = tuple(self.mean.shape)
            raise ValueError(
                f"latents must be (batch, {expected[0]}, {expected[1]}), got {tuple(latents.shape)}"
            )
        tokens = (latents - self.mean) / self.std
        rows, columns = self.first_grid
        if self.is_spread:
            x = self.embed(tokens.flatten(1)).unflatten(1, (-1, rows, columns))
        else:
            x = self.embed(tokens).mT.unflatten(2, (rows, columns))  # (batch, width, rows, columns)
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        size = (self.image_size, self.image_size)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return self.mean_picture + self.to_pixels(x)


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1), nn.GroupNorm(4, after), nn.GELU()
    )
