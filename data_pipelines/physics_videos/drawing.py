"""Scenes become frames: drawn four times as large as wanted, then averaged down, for soft edges."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from data_pipelines.physics_videos.engine import Block
from data_pipelines.physics_videos.scenes import Look, Scene

_OVERSAMPLING = 4


def draw_frames(scene: Scene, positions: np.ndarray, *, size: int) -> np.ndarray:
    """Draws a scene over time.

    Args:
        scene: what it looks like.
        positions: (time, things, 2), x and y of the centres in frame widths; a thing at NaN is not
            there.
        size: height and width in pixels.

    Returns:
        (time, size, size, 3), uint8, RGB. Equal positions give equal pixels.
    """
    backdrop = _backdrop(scene, size)
    return np.stack([_draw(scene, backdrop, things, size) for things in positions])


def _backdrop(scene: Scene, size: int) -> Image.Image:
    """Returns background and blocks, large."""
    large = size * _OVERSAMPLING
    weight = np.linspace(0, 1, large)[:, None, None]
    top, bottom = (np.array(colour, dtype=np.float64) for colour in scene.sky)
    rows = np.broadcast_to(top * (1 - weight) + bottom * weight, (large, large, 3))
    image = Image.fromarray(np.ascontiguousarray(rows.round().astype(np.uint8)))
    pencil = ImageDraw.Draw(image)
    for block in scene.blocks:
        _draw_block(pencil, block, scene.block_colour, large)
    return image


def _draw(scene: Scene, backdrop: Image.Image, things: np.ndarray, size: int) -> np.ndarray:
    image, large = backdrop.copy(), size * _OVERSAMPLING
    pencil = ImageDraw.Draw(image)
    for look, (x, y) in zip(scene.looks, things, strict=True):
        if np.isfinite(x):
            _draw_thing(pencil, look, x * large, y * large, look.radius * large)
    for screen in scene.screens:
        _draw_block(pencil, screen, scene.screen_colour, large)
    return np.asarray(image.reduce(_OVERSAMPLING))


def _draw_thing(pencil: ImageDraw.ImageDraw, look: Look, x: float, y: float, radius: float) -> None:
    box = (x - radius, y - radius, x + radius - 1, y + radius - 1)  # the last pixel is drawn too
    if look.shape == "disc":
        pencil.ellipse(box, fill=look.colour)
    else:
        pencil.rectangle(box, fill=look.colour)


def _draw_block(
    pencil: ImageDraw.ImageDraw, block: Block, colour: tuple[int, int, int], large: int
) -> None:
    left, top, right, bottom = (value * large for value in block)
    pencil.rectangle((left, top, right - 1, bottom - 1), fill=colour)
