"""Collision: things that meet push each other away, and hand over their momentum.

`passes_through`: two things roll towards each other and meet behind a screen; crossed with the same
story of exchanged things, each comes out where the other should. `no_transfer`: one thing rolls and
hits one that lies still, which takes over its momentum; crossed with the mirrored story, the second
thing lies still as if nothing had been, and the first one bounces off it as off a wall.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.physics_videos.engine import simulate_around
from data_pipelines.physics_videos.matched_sets import MatchedSet, crossed
from data_pipelines.physics_videos.scenes import Scene, centred, draw_scene, floor_at

VARIANTS = ("passes_through", "no_transfer")
Pair = tuple[float, float]  # one number for each of the two things


def matched_set(rng: np.random.Generator, *, num_frames: int) -> MatchedSet:
    """Draws two possible and two impossible stories; the variant is drawn as well."""
    variant = VARIANTS[rng.integers(len(VARIANTS))]
    radius, surface, x = rng.uniform(0.06, 0.09), rng.uniform(0.8, 0.95), rng.uniform(0.42, 0.58)
    height = 2 * radius + rng.uniform(0.04, 0.1)
    screen = centred(x, surface - height / 2, 4 * radius + rng.uniform(0.04, 0.08), height)
    screens = (screen,) if variant == "passes_through" else ()
    scene = draw_scene(rng, radii=(radius, radius), blocks=(floor_at(surface),), screens=screens)
    speed = rng.uniform(0.35, 0.55)
    left, right = x - radius, x + radius
    moment = int(rng.integers(num_frames * 2 // 5, num_frames * 3 // 5))
    if variant == "passes_through":
        stories = (((left, right), (speed, -speed)), ((right, left), (-speed, speed)))
    else:
        stories = (((left, right), (speed, 0.0)), ((left, right), (0.0, -speed)))
    first, second = (
        _meeting(scene, surface, *story, num_frames=num_frames, moment=moment) for story in stories
    )
    return crossed("collision", variant, scene, first, second, cut=moment)


def _meeting(
    scene: Scene, surface: float, places: Pair, speeds: Pair, *, num_frames: int, moment: int
) -> np.ndarray:
    """Two things on the floor that touch at a moment: positions (time, 2, 2)."""
    bodies = [
        look.body((x, surface - look.radius), (speed, 0.0))
        for look, x, speed in zip(scene.looks, places, speeds, strict=True)
    ]
    return simulate_around(bodies, scene.blocks, num_frames=num_frames, moment=moment).positions
