"""Pictures of flat worlds that are drawn without a library: smooth discs, and smooth edges."""

from __future__ import annotations

import numpy as np


def with_disc(
    background: np.ndarray, colour: np.ndarray, *, column: float, row: float, radius: float
) -> np.ndarray:
    """Draws a disc whose edge is as wide as a pixel.

    Args:
        background: (height, width, 3), 0 to 255.
        colour: (3,) of the disc, 0 to 255.
        column: of its middle, in pixels from the left edge of the picture.
        row: of its middle, in pixels from the upper edge.
        radius: in pixels.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = background.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - column, y - row)
    coverage = np.clip(radius + 0.5 - distance, 0.0, 1.0)[..., None]
    return (background * (1 - coverage) + colour * coverage).round().astype(np.uint8)


def averaged(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages squares of `factor` x `factor` pixels of a square image (size, size, 3)."""
    size = len(image) // factor
    return image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
