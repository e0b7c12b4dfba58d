"""What a scene looks like: colours, things that stand still, and screens that hide what is behind.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_pipelines.physics_videos.engine import Block, Body, Shape

Colour = tuple[int, int, int]
FAR = 3.0  # frame widths to either side: floors and shelves do not end where they can be seen


class Look(NamedTuple):
    """How a thing that moves is drawn.

    Attributes:
        radius: of a disc, or half the side of a square, in frame widths.
        shape: "disc" or "square".
        colour: RGB, each in [0, 255].
    """

    radius: float
    shape: Shape
    colour: Colour

    def body(self, position: tuple[float, float], velocity: tuple[float, float]) -> Body:
        """Returns the thing as the engine knows it."""
        return Body(position, velocity, radius=self.radius, shape=self.shape)


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn, but where things are.

    Attributes:
        sky: colours at the top and at the bottom of the background.
        looks: of the things that move, in the order they are drawn.
        blocks: floor, walls and shelves, behind the things.
        screens: what hides the things, in front of them; the engine does not know of them.
        block_colour: of all blocks.
        screen_colour: of all screens.
    """

    sky: tuple[Colour, Colour]
    looks: tuple[Look, ...]
    blocks: tuple[Block, ...] = ()
    screens: tuple[Block, ...] = ()
    block_colour: Colour = (90, 80, 70)
    screen_colour: Colour = (60, 90, 60)


def draw_scene(
    rng: np.random.Generator,
    *,
    radii: tuple[float, ...],
    blocks: tuple[Block, ...] = (),
    screens: tuple[Block, ...] = (),
) -> Scene:
    """Draws colours and shapes, so that things, screens and background differ.

    Args:
        rng: of everything that is random.
        radii: of the things that move.
        blocks: see `Scene`.
        screens: see `Scene`.
    """
    hues = (rng.random() + np.arange(len(radii) + 1) / (len(radii) + 1)) % 1.0  # last: the screen's
    looks = tuple(
        Look(radius, "disc" if rng.random() < 0.6 else "square", _vivid(rng, hue))
        for radius, hue in zip(radii, hues, strict=False)
    )
    return Scene(
        sky=(_pale(rng), _pale(rng)),
        looks=looks,
        blocks=blocks,
        screens=screens,
        block_colour=_colour(rng.random(), 0.25, rng.uniform(0.25, 0.4)),
        screen_colour=_colour(float(hues[-1]), 0.45, rng.uniform(0.4, 0.65)),
    )


def floor_at(y: float) -> Block:
    """Returns a floor whose surface is at y."""
    return Block(-FAR, y, 1 + FAR, y + 1.0)


def centred(x: float, y: float, width: float, height: float) -> Block:
    """Returns a rectangle by its centre and size."""
    return Block(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def either_sign(rng: np.random.Generator, low: float, high: float) -> float:
    """Returns a number from [low, high], or the same below zero."""
    return float(rng.uniform(low, high) * rng.choice((-1, 1)))


def _vivid(rng: np.random.Generator, hue: float) -> Colour:
    return _colour(float(hue), rng.uniform(0.75, 1.0), rng.uniform(0.75, 1.0))


def _pale(rng: np.random.Generator) -> Colour:
    return _colour(rng.random(), rng.uniform(0.02, 0.2), rng.uniform(0.75, 1.0))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue
