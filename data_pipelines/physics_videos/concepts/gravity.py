"""Gravity: what nothing holds falls, faster and faster, and does not fall upwards.

In two possible stories a thing is at the same place in the air at the same moment, with different
velocities. Crossed, a falling thing turns round and goes up, or goes on at another speed all of a
sudden. The third variant, `hovers`, crosses nothing: a thing stays in the air at the highest point
of its flight. Each frame of it is one of its possible partner too, but not equally often, so it is
not balanced: a thing in the air is more often impossible than not.
"""

from __future__ import annotations

import numpy as np

from data_pipelines.physics_videos.engine import simulate, simulate_around
from data_pipelines.physics_videos.matched_sets import MatchedSet, crossed
from data_pipelines.physics_videos.scenes import Scene, draw_scene, either_sign, floor_at

VARIANTS = ("falls_up", "speeds_up", "hovers")
Vector = tuple[float, float]


def matched_set(rng: np.random.Generator, *, num_frames: int) -> MatchedSet:
    """Draws two possible and two impossible stories; the variant is drawn as well."""
    variant = VARIANTS[rng.integers(len(VARIANTS))]
    radius, surface = rng.uniform(0.06, 0.1), rng.uniform(0.85, 0.97)
    scene = draw_scene(rng, radii=(radius,), blocks=(floor_at(surface),))
    place, sideways = (rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.5)), either_sign(rng, 0.0, 0.1)
    moment = int(rng.integers(num_frames * 2 // 5, num_frames * 3 // 5))
    if variant == "hovers":
        return _hovers(scene, place, num_frames=num_frames, moment=moment)
    slow, fast = rng.uniform(0.0, 0.1), rng.uniform(0.5, 0.6)
    downwards = (-fast, rng.uniform(0.4, 0.6)) if variant == "falls_up" else (slow, fast)
    first, second = (
        simulate_around(
            [scene.looks[0].body(place, (sideways, speed))],
            scene.blocks,
            num_frames=num_frames,
            moment=moment,
        ).positions
        for speed in downwards
    )
    return crossed("gravity", variant, scene, first, second, cut=moment)


def _hovers(scene: Scene, place: Vector, *, num_frames: int, moment: int) -> MatchedSet:
    """A thing at the highest point of its flight stays there, as if gravity were switched off.

    The second pair of the set is on the other side, a little lower.
    """
    falls, stays = [], []
    for x, y in (place, (1 - place[0], place[1] + 0.1)):
        bodies = [scene.looks[0].body((x, y), (0.0, 0.0))]
        falls.append(
            simulate_around(bodies, scene.blocks, num_frames=num_frames, moment=moment).positions
        )
        still = simulate(bodies, num_frames=num_frames - moment, gravity=0.0).positions
        stays.append(np.concatenate((falls[-1][:moment], still)))
    return MatchedSet(
        "gravity",
        "hovers",
        scene,
        possible=tuple(falls),
        impossible=tuple(stays),
        cut=moment,
        is_balanced=False,
    )
