"""Frames to the model's size: one crop for all frames of a clip.

Pixels stay uint8; they are normalised on the model's device (`jepa.models.pixels`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

_RESIZED_AT_ONCE_BYTES = 4 << 20


class CropBox(NamedTuple):
    """A rectangle in a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


class ClipTransform(Protocol):
    """(time, height, width, 3) uint8 -> (3, time, image_size, image_size) uint8."""

    @property
    def image_size(self) -> int:
        """Height and width of the result."""
        ...

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Transforms one clip; all randomness comes from the generator."""
        ...


@dataclass(frozen=True)
class RandomResizedClipCrop:
    """Crops one random box out of all frames, resizes it, and perhaps mirrors it.

    Attributes:
        image_size: height and width of the result.
        scale: the box's least and greatest part of the frame's area, each in (0, 1].
        aspect_ratio: the box's least and greatest width / height, drawn log-uniformly.
        horizontal_flip: mirror half of the clips, left to right.
        antialias: smooth before shrinking, as the eye expects.
    """

    image_size: int
    scale: tuple[float, float] = (0.3, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 1.35)
    horizontal_flip: bool = True
    antialias: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must satisfy 0 < low <= high <= 1, got {self.scale}")
        if not 0 < self.aspect_ratio[0] <= self.aspect_ratio[1]:
            raise ValueError(f"aspect_ratio must satisfy 0 < low <= high, got {self.aspect_ratio}")

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Returns (3, time, image_size, image_size), uint8."""
        height, width = frames.shape[1:3]
        box = random_crop_box(
            height, width, scale=self.scale, aspect_ratio=self.aspect_ratio, generator=generator
        )
        size = (self.image_size, self.image_size)
        clip = crop_and_resize(frames, box, size, antialias=self.antialias)
        is_mirrored = float(torch.rand((), generator=generator)) < 0.5
        return clip.flip(-1) if self.horizontal_flip and is_mirrored else clip


@dataclass(frozen=True)
class ResizeShortSideAndCenterCrop:
    """The evaluation transform: the largest centred square, resized. Draws nothing."""

    image_size: int
    antialias: bool = True

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Returns (3, time, image_size, image_size), uint8."""
        height, width = frames.shape[1:3]
        side = min(height, width)
        box = CropBox((height - side) // 2, (width - side) // 2, side, side)
        size = (self.image_size, self.image_size)
        return crop_and_resize(frames, box, size, antialias=self.antialias)


@dataclass(frozen=True)
class SquareAlongLongSide:
    """One of several squares along the long side, resized: a spatial view. Draws nothing.

    Squares as large as the short side, equally spaced from one end (top or left) to the other; of
    three the middle one is the centre crop. The rule of multi-view evaluation; a square frame
    gives the same view each time.

    Attributes:
        image_size: height and width of the result.
        place: which square, in [0, num_places), from the top or from the left.
        num_places: how many there are; the only one is the centre.
        antialias: smooth before shrinking.
    """

    image_size: int
    place: int = 0
    num_places: int = 1
    antialias: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.place < self.num_places:
            raise ValueError(f"place must be in [0, {self.num_places}), got {self.place}")

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Returns (3, time, image_size, image_size), uint8."""
        height, width = frames.shape[1:3]
        side, slack = min(height, width), abs(height - width)
        offset = slack // 2 if self.num_places == 1 else slack * self.place // (self.num_places - 1)
        top, left = (offset, 0) if height > width else (0, offset)
        size = (self.image_size, self.image_size)
        return crop_and_resize(
            frames, CropBox(top, left, side, side), size, antialias=self.antialias
        )


@dataclass(frozen=True)
class ResizeWholeFrame:
    """Resizes without cropping, so that what an action moved is still in sight.

    A frame that is not square is squeezed into a square.
    """

    image_size: int
    antialias: bool = True

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Returns (3, time, image_size, image_size), uint8."""
        box = CropBox(0, 0, *frames.shape[1:3])
        size = (self.image_size, self.image_size)
        return crop_and_resize(frames, box, size, antialias=self.antialias)


def random_crop_box(
    height: int,
    width: int,
    *,
    scale: tuple[float, float],
    aspect_ratio: tuple[float, float],
    generator: torch.Generator,
) -> CropBox:
    """Draws a box: area uniform, aspect ratio log-uniform, place uniform.

    Ten tries to fit the frame, then the largest centred box with an allowed aspect ratio: the
    rule of Inception-style crops.
    """
    low, high = math.log(aspect_ratio[0]), math.log(aspect_ratio[1])
    for _ in range(10):
        area = height * width * _uniform(scale[0], scale[1], generator)
        ratio = math.exp(_uniform(low, high, generator))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(_uniform(0, height - box_height + 1, generator))
            left = int(_uniform(0, width - box_width + 1, generator))
            return CropBox(top, left, box_height, box_width)
    return _central_box(height, width, aspect_ratio)


def crop_and_resize(
    frames: Tensor, box: CropBox, size: tuple[int, int], *, antialias: bool
) -> Tensor:
    """Cuts one box out of all frames, then resizes: cropping first saves the work.

    Pixels keep the order in which decoders give them, channels last, which is the faster one to
    resize. Large frames go a few at a time: the resizing copies the cut piece, and for a copy of
    tens of megabytes the system clears fresh memory each time.

    Args:
        frames: (time, height, width, 3), uint8.
        box: inside the frame.
        size: height and width of the result.
        antialias: smooth before shrinking.

    Returns:
        (3, time, *size), uint8.
    """
    top, left, height, width = box
    images = frames[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
    # images: (time, 3, height, width)
    if (height, width) == size:
        return images.transpose(0, 1)
    at_once = max(1, _RESIZED_AT_ONCE_BYTES // (3 * height * width))
    parts = [
        functional.resize(part, list(size), antialias=antialias) for part in images.split(at_once)
    ]
    images = parts[0] if len(parts) == 1 else torch.cat(parts)
    return images.transpose(0, 1)  # (3, time, *size)


def _central_box(height: int, width: int, aspect_ratio: tuple[float, float]) -> CropBox:
    ratio = min(max(width / height, aspect_ratio[0]), aspect_ratio[1])
    box_width = min(width, round(height * ratio))
    box_height = min(height, round(width / ratio))
    return CropBox((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
