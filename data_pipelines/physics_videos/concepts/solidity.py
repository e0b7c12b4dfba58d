"""Solidity: nothing passes through a wall or a floor.

Possible: a thing bounces off a wall, from the left or from the right, or off a shelf, from above or
from below; a screen hides the contact, but not that wall and shelf go on behind it. Impossible: it
comes out on the other side.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.physics_videos.engine import Block, simulate_around
from data_pipelines.physics_videos.matched_sets import MatchedSet, crossed
from data_pipelines.physics_videos.scenes import (
    FAR,
    Scene,
    centred,
    draw_scene,
    either_sign,
    floor_at,
)

VARIANTS = ("wall", "shelf")
Contact = tuple[tuple[float, float], tuple[float, float]]  # a place and a velocity


def matched_set(rng: np.random.Generator, *, num_frames: int) -> MatchedSet:
    """Draws two possible and two impossible stories; the variant is drawn as well."""
    variant = VARIANTS[rng.integers(len(VARIANTS))]
    scene, contacts = _wall(rng) if variant == "wall" else _shelf(rng)
    moment = int(rng.integers(num_frames * 2 // 5, num_frames * 3 // 5))
    first, second = (
        simulate_around(
            [scene.looks[0].body(place, velocity)],
            scene.blocks,
            num_frames=num_frames,
            moment=moment,
        ).positions
        for place, velocity in contacts
    )
    return crossed("solidity", variant, scene, first, second, cut=moment)


def _wall(rng: np.random.Generator) -> tuple[Scene, list[Contact]]:
    radius, surface, x = rng.uniform(0.06, 0.09), rng.uniform(0.8, 0.95), rng.uniform(0.42, 0.58)
    half = rng.uniform(0.015, 0.03)  # of the wall's thickness
    height = 2 * radius + rng.uniform(0.04, 0.08)
    screen_width = 2 * (half + 2 * radius) + rng.uniform(0.04, 0.08)
    wall = Block(x - half, surface - height - rng.uniform(0.12, 0.3), x + half, surface)
    screen = centred(x, surface - height / 2, screen_width, height)
    scene = draw_scene(rng, radii=(radius,), blocks=(floor_at(surface), wall), screens=(screen,))
    speed, y, away = rng.uniform(0.35, 0.55), surface - radius, half + radius
    return scene, [((x - away, y), (speed, 0.0)), ((x + away, y), (-speed, 0.0))]


def _shelf(rng: np.random.Generator) -> tuple[Scene, list[Contact]]:
    radius, surface = rng.uniform(0.05, 0.07), rng.uniform(0.9, 0.97)
    half, y, x = rng.uniform(0.01, 0.02), rng.uniform(0.42, 0.48), rng.uniform(0.3, 0.7)
    shelf = Block(-FAR, y - half, 1 + FAR, y + half)
    height = 2 * (half + 2 * radius) + rng.uniform(0.03, 0.05)
    screen = centred(x, y, 2 * radius + rng.uniform(0.15, 0.25), height)
    scene = draw_scene(rng, radii=(radius,), blocks=(floor_at(surface), shelf), screens=(screen,))
    sideways, away = either_sign(rng, 0.0, 0.08), half + radius
    fall, rise = rng.uniform(0.7, 0.85), rng.uniform(0.35, 0.6)
    return scene, [((x, y - away), (sideways, fall)), ((x, y + away), (sideways, -rise))]
