"""Pixels in, normalised video out: the one place where bytes become floats."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_pixels(video: Tensor) -> Tensor:
    """Returns float32 video with ImageNet statistics removed, as in the released V-JEPA models.

    Args:
        video: (batch, 3, time, height, width), uint8 in [0, 255].

    Raises:
        ValueError: if the layout or the dtype is another one.
    """
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"video must be (batch, 3, time, height, width), got {tuple(video.shape)}")
    if video.dtype != torch.uint8:
        raise ValueError(f"video must be uint8 in [0, 255], got {video.dtype}")
    mean = torch.tensor(IMAGENET_MEAN, device=video.device).view(3, 1, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=video.device).view(3, 1, 1, 1)
    return video.float().mul_(1 / 255).sub_(mean).div_(std)
