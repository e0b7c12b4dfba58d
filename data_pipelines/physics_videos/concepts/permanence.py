"""Permanence: a thing that goes behind a screen is still there, and nothing is there that was not.

Possible: a thing passes behind a screen; a scene without a thing. Impossible: it does not come out
again; something comes out that never went in.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.physics_videos.engine import simulate_around
from data_pipelines.physics_videos.matched_sets import MatchedSet, crossed
from data_pipelines.physics_videos.scenes import centred, draw_scene, either_sign, floor_at

VARIANTS = ("rolling", "falling")


def matched_set(rng: np.random.Generator, *, num_frames: int) -> MatchedSet:
    """Draws two possible and two impossible stories; the variant is drawn as well."""
    variant = VARIANTS[rng.integers(len(VARIANTS))]
    radius, surface, x = rng.uniform(0.06, 0.1), rng.uniform(0.82, 0.95), rng.uniform(0.35, 0.65)
    extra = rng.uniform(0.05, 0.12)  # by how much the screen is larger than the thing
    moment = int(rng.integers(num_frames * 2 // 5, num_frames * 3 // 5))
    if variant == "rolling":
        place, velocity = (x, surface - radius), (either_sign(rng, 0.35, 0.55), 0.0)
        height = 2 * radius + extra
        screen = centred(x, surface - height / 2, 2 * radius + extra, height)
    else:
        place, velocity = (x, rng.uniform(0.4, 0.5)), (0.0, rng.uniform(0.3, 0.5))
        screen = centred(*place, 2 * radius + extra, 2 * radius + extra)
    scene = draw_scene(rng, radii=(radius,), blocks=(floor_at(surface),), screens=(screen,))
    there = simulate_around(
        [scene.looks[0].body(place, velocity)], scene.blocks, num_frames=num_frames, moment=moment
    ).positions
    return crossed("permanence", variant, scene, there, np.full_like(there, np.nan), cut=moment)
