"""A small residual convolutional encoder of single frames: cheap where a CPU must train it.

As in PLDM (arXiv:2502.14819) and eb_jepa, whose simulators are seen by convolutions; here it
leaves a grid of tokens, as a vision transformer does, so `jepa.models.latents` go on from there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jepa.models.pixels import normalize_pixels
from jepa.models.settings import refuse_wrong_counts

CHANNELS_A_GROUP = 8  # are normed together, frame by frame: batches do not matter then


class ConvEncoder(nn.Module):
    """Frames to a grid of tokens: stages that halve the frame, each followed by a residual block.

    The first stage has no residual block: at half the frame's size it would cost as much as all
    others together.

    Args:
        image_size: height and width in pixels; a multiple of 2 to the number of stages.
        widths: channels after each stage, multiples of 8; the last is the width of a token.

    Raises:
        ValueError: if the settings do not fit one another.
    """

    def __init__(self, *, image_size: int = 64, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        refuse_wrong_counts(image_size=image_size)
        for width in widths:
            refuse_wrong_counts(width=width)
        if not widths or any(width % CHANNELS_A_GROUP for width in widths):
            raise ValueError(
                f"widths must be multiples of {CHANNELS_A_GROUP}, one a stage, got {widths!r}"
            )
        stride = 2 ** len(widths)
        if image_size % stride:
            raise ValueError(
                f"image_size={image_size} must be a multiple of {stride}: each of {len(widths)} "
                "stages halves it"
            )
        self.config = {"image_size": image_size, "widths": list(widths)}
        self.dim, side = widths[-1], image_size // stride
        self.grid, self.tubelet = (1, side, side), (1, stride, stride)
        channels = (3, *widths)
        stages = []
        for index, width in enumerate(widths):
            stages += [nn.Conv2d(channels[index], width, 3, stride=2, padding=1), _norm(width)]
            stages += [ResidualBlock(width)] if index else [nn.GELU()]
        self.stages = nn.Sequential(*stages)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encodes every frame on its own.

        Args:
            frames: (batch, 3, time, height, width): pixels as uint8 in [0, 255], or as floats that
                are normalised already.

        Returns:
            (batch, time, tokens of one frame, dim), row by row.

        Raises:
            ValueError: if the layout or the size does not fit.
        """
        side = self.config["image_size"]
        if frames.ndim != 5 or (frames.shape[1], *frames.shape[3:]) != (3, side, side):
            raise ValueError(
                f"frames must be (batch, 3, time, {side}, {side}), got {tuple(frames.shape)}"
            )
        if frames.dtype == torch.uint8:
            frames = normalize_pixels(frames)
        batch, _, time = frames.shape[:3]
        images = frames.transpose(1, 2).flatten(0, 1)  # (batch * time, 3, height, width)
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.stages(images)  # (batch * time, dim, rows, columns)
        return features.flatten(2).mT.unflatten(0, (batch, time))


class ResidualBlock(nn.Module):
    """x + conv(GELU(norm(conv(GELU(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = _norm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # begins as the identity
        self.activation = nn.GELU()

    def forward(self, images: Tensor) -> Tensor:
        """Maps (images, width, rows, columns) to the same shape."""
        hidden = self.first(self.activation(images))
        return images + self.second(self.activation(self.norm(hidden)))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // CHANNELS_A_GROUP, width)
