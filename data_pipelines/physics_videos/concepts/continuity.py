"""Continuity: what goes from one place to another passes all places between.

Possible: a thing rolls behind two screens, one after the other, and is seen between them; it is
hidden by the first screen in one story at the moment at which it is hidden by the second screen in
the other. Impossible: it goes behind the first screen and comes from behind the second, without
having been between them, and the reverse.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.physics_videos.engine import simulate_around
from data_pipelines.physics_videos.matched_sets import MatchedSet, crossed
from data_pipelines.physics_videos.scenes import centred, draw_scene, either_sign, floor_at

VARIANTS = ("teleport",)


def matched_set(rng: np.random.Generator, *, num_frames: int) -> MatchedSet:
    """Draws two possible and two impossible stories."""
    radius, surface = rng.uniform(0.05, 0.075), rng.uniform(0.75, 0.95)
    width = 2 * radius + rng.uniform(0.04, 0.08)
    gap = 2 * radius + rng.uniform(0.04, 0.1)
    middle, height = rng.uniform(0.45, 0.55), 2 * radius + rng.uniform(0.05, 0.2)
    centres = (middle - (gap + width) / 2, middle + (gap + width) / 2)
    screens = tuple(centred(x, surface - height / 2, width, height) for x in centres)
    scene = draw_scene(rng, radii=(radius,), blocks=(floor_at(surface),), screens=screens)
    velocity = (either_sign(rng, 0.35, 0.55), 0.0)
    moment = int(rng.integers(num_frames * 2 // 5, num_frames * 3 // 5))
    first, second = (
        simulate_around(
            [scene.looks[0].body((x, surface - radius), velocity)],
            scene.blocks,
            num_frames=num_frames,
            moment=moment,
        ).positions
        for x in centres
    )
    return crossed("continuity", "teleport", scene, first, second, cut=moment)
