"""What a simulator knows of a picture that it drew: bodies, depth, and from where it was seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class View:
    """Where a camera stood, and how it projects: no lens errors, square pixels.

    Attributes:
        position: (3,), in metres.
        axes: (3, 3), rows: to the right, down and forward in the picture, of length 1.
        focal_length: in pixels.
        image_size: height and width in pixels.
    """

    position: np.ndarray
    axes: np.ndarray
    focal_length: float
    image_size: int

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixels (..., 2), x and y from the upper left corner, and depths (...), of points.

        Args:
            points: (..., 3), in metres; what is behind the camera has a depth below 0.
        """
        seen = (points - self.position) @ self.axes.T
        depth = seen[..., 2]
        shares = seen[..., :2] / np.where(depth == 0, np.inf, depth)[..., None]
        return self.focal_length * shares + self.image_size / 2, depth

    def unproject(self, pixels: np.ndarray, depths: np.ndarray) -> np.ndarray:
        """Returns points (..., 3) at pixels (..., 2) and depths (...): the inverse of `project`."""
        shares = (pixels - self.image_size / 2) / self.focal_length
        ahead = np.concatenate([shares, np.ones((*shares.shape[:-1], 1))], axis=-1)
        return ahead * depths[..., None] @ self.axes + self.position


@dataclass(frozen=True)
class RenderedLabels:
    """What is known of a picture.

    Attributes:
        bodies: (image_size, image_size), int64: the body of the model at each pixel; 0 is the
            world itself, -1 nothing.
        depth: (image_size, image_size), float64, metres along the direction of view; where nothing
            is, the far end of what is drawn.
        camera: where the picture was taken from.
        body_positions: (bodies, 3), in metres.
        body_rotations: (bodies, 3, 3), columns the axes of the body.
    """

    bodies: np.ndarray
    depth: np.ndarray
    camera: View
    body_positions: np.ndarray
    body_rotations: np.ndarray
