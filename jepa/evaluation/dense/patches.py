"""Frames to a grid of features, one a patch: an encoder's, the pixels themselves, or the place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jepa.evaluation.encoders import ProbeEncoder

Grid = tuple[int, int]  # rows and columns of patches
# Frames (time, height, width, 3) uint8 to features (time, rows, columns, dim) float32.
PatchFeatures = Callable[[np.ndarray], Tensor]

FRAMES_AT_ONCE = 64  # of a frame-by-frame encoder, whatever the length of its clips


class EncoderPatches:
    """The tokens of an encoder. Frames are resized to the encoder's square, whatever their shape.

    Of an encoder that sees whole clips, the video is cut into clips of its length, and the tokens
    of a tubelet are those of each of its frames; the last clip is filled with its last frame.

    Args:
        encoder: frozen; several layers are put side by side.
    """

    def __init__(self, encoder: ProbeEncoder) -> None:
        self.encoder = encoder

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches."""
        return self.encoder.grid[1], self.encoder.grid[2]

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Encodes (time, height, width, 3) uint8: (time, rows, columns, dim) float32."""
        length = self.encoder.clip_length_frames
        video = resized(frames, (self.encoder.image_size, self.encoder.image_size))
        missing = -len(video) % length
        video = torch.cat([video, video[-1:].expand(missing, -1, -1, -1)])
        clips = video.unflatten(0, (-1, length)).transpose(1, 2)  # (clips, 3, time, height, width)
        at_once = max(1, FRAMES_AT_ONCE // length)
        tokens = torch.cat([self._tokens(some) for some in clips.split(at_once)])
        return tokens.flatten(0, 1)[: len(frames)]

    def _tokens(self, clips: Tensor) -> Tensor:
        """Returns (clips, time, rows, columns, layers * dim) of clips of full length."""
        tokens = self.encoder.encode(clips).cpu()  # (clips, layers, tokens, dim)
        grids = tokens.unflatten(2, self.encoder.grid).permute(0, 2, 3, 4, 1, 5).flatten(4)
        return grids.repeat_interleave(clips.shape[2] // grids.shape[1], dim=1)


class PixelPatches:
    """The pixels of each patch, of a copy that is small enough to keep them few.

    Args:
        grid: rows and columns of patches: those of the encoder that is compared with.
        side: of a patch in the copy, in pixels; a feature has 3 * side ** 2 numbers.
    """

    def __init__(self, grid: Grid, *, side: int = 4) -> None:
        self.grid, self.side = grid, side

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Cuts (time, height, width, 3) uint8: (time, rows, columns, dim), values in [-1, 1]."""
        rows, columns = self.grid
        small = resized(frames, (rows * self.side, columns * self.side))
        patches = functional.unfold(small.float() / 127.5 - 1, self.side, stride=self.side)
        return patches.mT.unflatten(1, self.grid)


class PlacePatches:
    """Where a patch is, and nothing of the picture: what a data set tells by its layout alone.

    Args:
        grid: rows and columns of patches.
        degree: of the polynomials in x and y.
    """

    def __init__(self, grid: Grid, *, degree: int = 4) -> None:
        self.grid, self.degree = grid, degree

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Returns (time, rows, columns, dim); only the number of frames is looked at."""
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in self.grid), indexing="ij")
        powers = [
            x**i * y**j for i in range(self.degree + 1) for j in range(self.degree + 1 - i) if i + j
        ]
        return torch.stack(powers, dim=-1).expand(len(frames), -1, -1, -1).contiguous()


def resized(frames: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Returns frames (time, height, width, 3) uint8 as (time, 3, *size) uint8, antialiased."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if tuple(video.shape[2:]) == size:
        return video
    large = functional.interpolate(
        video.float(), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return large.round().clamp(0, 255).to(torch.uint8)
