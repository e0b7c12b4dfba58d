"""Moving textured shapes with exact masks, depths and point tracks: no simulator is needed.

A camera looks at a tilted wall whose texture slides, and at shapes before it that move, turn and
come nearer; the nearest hides what is behind. Everything is a formula of place and time, so labels
are exact, at every pixel and between pixels. The class of a shape is its outline; colours and
textures say nothing of it. What is far away fades into grey, so one picture tells depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.dense_labels import DenseClip, write_dense_clip

CLASS_NAMES = ("background", "disc", "square", "triangle")
FOCAL_LENGTH = 1.0  # in picture widths
WALL_DEPTHS = 7.0, 4.0  # metres, at the top and at the bottom of the picture
SHAPE_DEPTHS = 1.6, 3.4
DEPTH_SWING = 0.5
SHAPE_RADII = 0.38, 0.5
FOG_METRES = 6.0
FOG_GREY = 200.0
NUM_WAVES = 8
BACKGROUND_SHARE = 0.25  # of the points
MAX_DRAWS = 1000


def write_dense_shapes(
    folder: str | Path,
    *,
    num_clips: int = 16,
    num_frames: int = 16,
    size: int = 64,
    num_shapes: int = 3,
    num_points: int = 32,
    seed: int = 0,
) -> list[Path]:
    """Writes clips of `make_dense_shapes`; the same seed gives the same clips.

    Raises:
        ValueError: if a number is too small.
    """
    if num_clips < 1:
        raise ValueError(f"num_clips must be at least 1, got {num_clips}")
    return [
        write_dense_clip(
            make_dense_shapes(
                np.random.default_rng((seed, index)),
                key=f"shapes-{seed}-{index:05d}",
                num_frames=num_frames,
                size=size,
                num_shapes=num_shapes,
                num_points=num_points,
            ),
            folder,
        )
        for index in range(num_clips)
    ]


def make_dense_shapes(
    rng: np.random.Generator,
    *,
    key: str = "shapes",
    num_frames: int = 16,
    size: int = 64,
    num_shapes: int = 3,
    num_points: int = 32,
) -> DenseClip:
    """Draws one clip.

    Args:
        rng: chooses everything.
        key: of the clip.
        num_frames: at least 2.
        size: height and width in pixels, at least 16.
        num_shapes: 1 to 20; object ids are 1 to num_shapes.
        num_points: that are followed, at least 1; all are seen before the last frame.

    Raises:
        ValueError: if a number is out of range.
    """
    if num_frames < 2 or size < 16 or not 1 <= num_shapes <= 20 or num_points < 1:
        raise ValueError(
            "a clip needs num_frames >= 2, size >= 16, 1 <= num_shapes <= 20 and num_points >= 1, "
            f"got {num_frames}, {size}, {num_shapes} and {num_points}"
        )
    wall = Wall(_Texture.draw(rng, 6, 40), slide=rng.uniform(-0.012, 0.012, 2))
    shapes = [Shape.draw(rng) for _ in range(num_shapes)]
    places = _pixel_centres(size)  # (size, size, 2)
    pictures = [_picture(wall, shapes, places, time) for time in range(num_frames)]
    tracks, is_visible = _tracks(rng, wall, shapes, num_points, num_frames)
    return DenseClip(
        key=key,
        frames=np.stack([colours for colours, _, _ in pictures]),
        object_ids=np.stack([ids for _, ids, _ in pictures]),
        object_classes=(0, *(shape.kind for shape in shapes)),
        class_names=CLASS_NAMES,
        depth=np.stack([depth for _, _, depth in pictures]),
        tracks=(tracks * size).astype(np.float32),
        is_visible=is_visible,
        frames_per_second=10.0,
    )


@dataclass(frozen=True)
class _Texture:
    """A sum of plane waves: a colour at every real place.

    Attributes:
        waves: (waves, 2), radians per unit of length.
        phases: (waves,).
        colours: (waves, 3), amplitudes.
        mean: (3,).
    """

    waves: np.ndarray
    phases: np.ndarray
    colours: np.ndarray
    mean: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, least: float, most: float) -> _Texture:
        """Draws one whose waves have from `least` to `most` radians per unit of length."""
        angles, lengths = rng.uniform(0, math.tau, NUM_WAVES), rng.uniform(least, most, NUM_WAVES)
        waves = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
        colours = rng.normal(0, 25, (NUM_WAVES, 3))
        return cls(waves, rng.uniform(0, math.tau, NUM_WAVES), colours, rng.uniform(60, 196, 3))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Returns colours (..., 3) at places (..., 2)."""
        return self.mean + np.sin(places @ self.waves.T + self.phases) @ self.colours


@dataclass(frozen=True)
class Wall:
    """What is behind everything: a plane, whose inverse depth is linear in the row.

    Attributes:
        texture: in picture coordinates of time 0.
        slide: (2,), how far the texture moves in a frame, in picture widths.
    """

    texture: _Texture
    slide: np.ndarray

    def depth(self, places: np.ndarray) -> np.ndarray:
        """Returns depths (...) at places (..., 2)."""
        top, bottom = (1 / metres for metres in WALL_DEPTHS)
        return 1 / (top + (bottom - top) * places[..., 1])


@dataclass(frozen=True)
class Shape:
    """A flat thing that faces the camera.

    Attributes:
        kind: its class: 1 disc, 2 square, 3 triangle.
        texture: in its own coordinates, where its outline is about 1 from its middle.
        radius: in metres.
        start: (2,), where its middle is at time 0, in parts of the way from 0.1 to 0.9.
        velocity: (2,), parts of that way per frame; it turns back at the ends.
        depth_start: at time 0, in metres.
        depth_rate: radians per frame at which it comes and goes by `DEPTH_SWING`.
        angles: at time 0, and the change per frame, in radians.
    """

    kind: int
    texture: _Texture
    radius: float
    start: np.ndarray
    velocity: np.ndarray
    depth_start: float
    depth_rate: float
    angles: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Shape:
        """Draws one."""
        heading = rng.uniform(0, math.tau)
        speed = rng.uniform(0.02, 0.06)
        return cls(
            kind=int(rng.integers(1, len(CLASS_NAMES))),
            texture=_Texture.draw(rng, 2, 9),
            radius=float(rng.uniform(*SHAPE_RADII)),
            start=rng.uniform(0, 1, 2),
            velocity=speed * np.array([math.cos(heading), math.sin(heading)]),
            depth_start=float(rng.uniform(*SHAPE_DEPTHS)),
            depth_rate=float(rng.uniform(-0.1, 0.1)),
            angles=(float(rng.uniform(0, math.tau)), float(rng.uniform(-0.06, 0.06))),
        )

    def depth(self, time: int) -> float:
        """Returns how far away it is at a time, in metres."""
        return self.depth_start + DEPTH_SWING * math.sin(self.depth_rate * time)

    def middle(self, time: int) -> np.ndarray:
        """Returns (2,), in picture widths."""
        way = (self.start + self.velocity * time) % 2
        return 0.1 + 0.8 * (1 - np.abs(1 - way))

    def own(self, places: np.ndarray, time: int) -> np.ndarray:
        """Returns places of the picture (..., 2) in the shape's own coordinates."""
        offsets = (places - self.middle(time)) / self._scale(time)
        return offsets @ self._rotation(time)

    def placed(self, own: np.ndarray, time: int) -> np.ndarray:
        """Returns where in the picture its own places (..., 2) are: the inverse of `own`."""
        return own @ self._rotation(time).T * self._scale(time) + self.middle(time)

    def covers(self, own: np.ndarray) -> np.ndarray:
        """Returns which of its own places (..., 2) are inside its outline."""
        x, y = own[..., 0], own[..., 1]
        if self.kind == 1:
            return np.hypot(x, y) <= 1
        if self.kind == 2:
            return np.maximum(abs(x), abs(y)) <= 0.85
        height = 0.6 * math.sqrt(3)
        return (y <= 0.6) & (height * abs(x) <= 0.6 * (y + 1.2))

    def _scale(self, time: int) -> float:
        return FOCAL_LENGTH * self.radius / self.depth(time)

    def _rotation(self, time: int) -> np.ndarray:
        angle = self.angles[0] + self.angles[1] * time
        cosine, sine = math.cos(angle), math.sin(angle)
        return np.array([[cosine, -sine], [sine, cosine]])


def _pixel_centres(size: int) -> np.ndarray:
    middles = (np.arange(size) + 0.5) / size
    return np.stack(np.meshgrid(middles, middles), axis=-1)


def _picture(
    wall: Wall, shapes: list[Shape], places: np.ndarray, time: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns colours uint8, object ids uint16 and depths float32, each at places (..., 2)."""
    depth = wall.depth(places)
    colours = wall.texture.at(places - wall.slide * time)
    ids = np.zeros(places.shape[:-1], dtype=np.uint16)
    for number, shape in enumerate(shapes, start=1):
        own = shape.own(places, time)
        is_front = shape.covers(own) & (shape.depth(time) < depth)
        depth = np.where(is_front, shape.depth(time), depth)
        colours = np.where(is_front[..., None], shape.texture.at(own), colours)
        ids[is_front] = number
    clearness = np.exp(-depth / FOG_METRES)[..., None]
    colours = colours * clearness + FOG_GREY * (1 - clearness)
    return colours.clip(0, 255).astype(np.uint8), ids, depth.astype(np.float32)


def _tracks(
    rng: np.random.Generator, wall: Wall, shapes: list[Shape], num_points: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns places (points, time, 2) in picture widths, and where they are seen."""
    tracks, visible = [], []
    for _ in range(MAX_DRAWS * num_points):
        is_of_wall = rng.random() < BACKGROUND_SHARE
        number = 0 if is_of_wall else int(rng.integers(1, len(shapes) + 1))
        track = _track(rng, wall, shapes, number, num_frames)
        seen = np.array(
            [
                _is_seen(wall, shapes, number, *at)
                for at in zip(track, range(num_frames), strict=True)
            ]
        )
        if seen[:-1].any():
            tracks.append(track)
            visible.append(seen)
        if len(tracks) == num_points:
            return np.stack(tracks), np.stack(visible)
    raise ValueError("no points are to be seen; draw other shapes, or fewer")


def _track(
    rng: np.random.Generator, wall: Wall, shapes: list[Shape], number: int, num_frames: int
) -> np.ndarray:
    """Draws a point of the wall (0) or of a shape; returns where it is: (time, 2)."""
    times = range(num_frames)
    if number == 0:
        return rng.random(2) + np.outer(times, wall.slide)
    shape = shapes[number - 1]
    own = rng.uniform(-1.2, 1.2, 2)
    while not shape.covers(own):
        own = rng.uniform(-1.2, 1.2, 2)
    return np.stack([shape.placed(own, time) for time in times])


def _is_seen(wall: Wall, shapes: list[Shape], number: int, place: np.ndarray, time: int) -> bool:
    if not ((place >= 0) & (place <= 1)).all():
        return False
    depth = wall.depth(place) if number == 0 else shapes[number - 1].depth(time)
    return not any(
        shape.depth(time) < depth and shape.covers(shape.own(place, time))
        for index, shape in enumerate(shapes, start=1)
        if index != number
    )
