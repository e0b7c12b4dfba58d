"""The crops of evaluation: the same box for all frames of a clip, and nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from data_pipelines.transforms import (
    ClipTransform,
    CropBox,
    ResizeWholeFrame,
    SquareAlongLongSide,
    crop_and_resize,
)

Crop = Literal["official", "square", "whole"]
MARGIN = 256 / 224  # of the short side after resizing, over the crop


@dataclass(frozen=True)
class CropOfResizedFrame:
    """The short side becomes int(image_size * 256 / 224) pixels; then it is cropped.

    The rule of the released V-JEPA 2 evaluations.

    Crops lie along the long side, equally spaced from one end to the other, and in the middle of
    the short side. A square frame counts as wide.

    Attributes:
        image_size: height and width of the crop.
        place: which crop, in [0, num_places), from the top or from the left.
        num_places: how many there are; the only one is the centre.
    """

    image_size: int
    place: int = 0
    num_places: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.place < self.num_places:
            raise ValueError(f"place must be in [0, {self.num_places}), got {self.place}")

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Returns (3, time, image_size, image_size), uint8."""
        height, width = frames.shape[1:3]
        short = int(self.image_size * MARGIN)
        long = int(short * max(height, width) / min(height, width))  # rounded as torchvision does
        is_tall = height > width
        size = (long, short) if is_tall else (short, long)
        whole = CropBox(0, 0, height, width)
        video = crop_and_resize(frames, whole, size, antialias=True)  # (3, time, *size)
        top = self._offset(size[0], is_long_side=is_tall)
        left = self._offset(size[1], is_long_side=not is_tall)
        return video[..., top : top + self.image_size, left : left + self.image_size]

    def _offset(self, side: int, *, is_long_side: bool) -> int:
        slack = side - self.image_size
        if is_long_side and self.num_places > 1:
            return slack * self.place // (self.num_places - 1)
        return slack // 2


def evaluation_crops(crop: Crop, image_size: int, num_views: int) -> tuple[ClipTransform, ...]:
    """Returns the transform of each view.

    Args:
        crop: "official": see `CropOfResizedFrame`; "square": squares as large as the short side,
            see `SquareAlongLongSide`; "whole": the whole frame, squeezed into a square.
        image_size: height and width in pixels.
        num_views: crops of each moment.

    Raises:
        ValueError: if crop is another word, or there are several views of whole frames.
    """
    if crop not in get_args(Crop):
        raise ValueError(f"crop must be one of {', '.join(get_args(Crop))}, got {crop!r}")
    if crop == "whole":
        if num_views > 1:
            raise ValueError(
                f"num_views={num_views} of whole frames would all be the same; use 1, or "
                "crop='official' or 'square'"
            )
        return (ResizeWholeFrame(image_size),)
    kind = CropOfResizedFrame if crop == "official" else SquareAlongLongSide
    return tuple(kind(image_size, place, num_views) for place in range(num_views))
