"""Point tracking by feature matching: where is the patch that is most like the one asked for?

As in TAP-Vid's baselines of frozen features (arXiv:2211.03726, Sec. 4; arXiv:2306.08637, Sec. 3.1):
the feature at the query, read between patches, is compared with every patch of every frame; the
best match is refined by the weighted mean of the patches around it. Whether a point is hidden is
told by going back: from the place found, the best match in the first frame must be near the query.
Nothing is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class TrackingSettings:
    """How points are found.

    Args:
        temperature: of the softmax over cosine similarities around the best match.
        radius: of the patches around the best match that refine it, in patches (a disc); 0 does
            not refine.
        return_distance: a point is said to be visible if going back ends within so many patches of
            the query.

    Raises:
        ValueError: if a setting is out of range.
    """

    temperature: float = 0.05
    radius: float = 1.5
    return_distance: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.radius < 0 or self.return_distance < 0:
            raise ValueError(
                "radius and return_distance must be at least 0, got "
                f"{self.radius} and {self.return_distance}"
            )


class FoundTracks(NamedTuple):
    """Where points are said to be.

    Attributes:
        places: (points, time, 2), x and y in pixels.
        is_visible: (points, time), bool.
    """

    places: Tensor
    is_visible: Tensor


def track_points(
    features: Tensor,
    queries: Tensor,
    query_frames: Tensor,
    *,
    size: tuple[int, int],
    settings: TrackingSettings | None = None,
) -> FoundTracks:
    """Finds points in all frames of a video.

    Args:
        features: (time, rows, columns, dim).
        queries: (points, 2), x and y in pixels, where each point is in its query frame.
        query_frames: (points,), int64.
        size: height and width of a frame in pixels.
        settings: None for the defaults.

    Returns:
        Places and visibility; in its query frame a point is where it was asked for.

    Raises:
        ValueError: if the shapes do not fit, or a query is outside of the video.
    """
    settings = settings or TrackingSettings()
    _refuse_wrong_queries(features, queries, query_frames, size)
    patches = functional.normalize(features.float(), dim=-1)
    places, is_visible = [], []
    for query, start in zip(queries.float(), query_frames.tolist(), strict=True):
        described = features_at(patches[start : start + 1], query[None], size)  # (1, dim)
        found = best_places(patches, described.expand(len(patches), -1), size, settings)
        back = best_places(
            patches[start].expand_as(patches), features_at(patches, found, size), size, settings
        )
        is_near = (
            _patches_between(back, query, patches.shape[1:3], size) <= settings.return_distance
        )
        found[start], is_near[start] = query, True
        places.append(found)
        is_visible.append(is_near)
    return FoundTracks(torch.stack(places), torch.stack(is_visible))


def features_at(features: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Reads features between patches, bilinearly; beyond the outer middles those of the edge.

    Args:
        features: (time, rows, columns, dim).
        places: (time, 2), one place in each frame: x and y in pixels.
        size: height and width of a frame in pixels.

    Returns:
        (time, dim), of length 1.
    """
    extent = torch.tensor(size[::-1], dtype=places.dtype)  # width, height
    grid = (2 * places / extent - 1)[:, None, None]  # (time, 1, 1, 2), -1 and 1 are the edges
    read = functional.grid_sample(
        features.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False
    )
    return functional.normalize(read[:, :, 0, 0], dim=-1)


def best_places(
    features: Tensor, wanted: Tensor, size: tuple[int, int], settings: TrackingSettings
) -> Tensor:
    """Returns where each frame is most like what is wanted there: (time, 2), in pixels.

    Args:
        features: (time, rows, columns, dim), of length 1.
        wanted: (time, dim), of length 1.
        size: height and width of a frame in pixels.
        settings: see `TrackingSettings`.
    """
    rows, columns = features.shape[1:3]
    similar = torch.einsum("trcd,td->trc", features, wanted).flatten(1)  # (time, patches)
    at = torch.stack(
        [torch.arange(rows * columns) % columns, torch.arange(rows * columns) // columns], dim=-1
    ).float()  # (patches, 2), column and row
    best = at[similar.argmax(1)]  # (time, 2)
    is_around = torch.cdist(best, at) <= settings.radius  # (time, patches)
    weights = (similar / settings.temperature).masked_fill(~is_around, -torch.inf).softmax(1)
    patch = torch.tensor([size[1] / columns, size[0] / rows])
    return (weights @ at + 0.5) * patch


def _patches_between(
    places: Tensor, other: Tensor, grid: tuple[int, ...], size: tuple[int, int]
) -> Tensor:
    """Returns how many patches are between places (time, 2) and one other (2,): (time,)."""
    patch = torch.tensor([size[1] / grid[1], size[0] / grid[0]])
    return torch.linalg.vector_norm((places - other) / patch, dim=-1)


def _refuse_wrong_queries(
    features: Tensor, queries: Tensor, query_frames: Tensor, size: tuple[int, int]
) -> None:
    if features.ndim != 4 or queries.ndim != 2 or queries.shape[1] != 2:
        raise ValueError(
            "features must be (time, rows, columns, dim) and queries (points, 2), got "
            f"{tuple(features.shape)} and {tuple(queries.shape)}"
        )
    if query_frames.shape != queries.shape[:1]:
        raise ValueError(
            f"{len(queries)} queries need as many query_frames, got {tuple(query_frames.shape)}"
        )
    extent = torch.tensor(size[::-1])
    is_inside = ((queries >= 0) & (queries <= extent)).all(-1)
    is_inside &= (query_frames >= 0) & (query_frames < len(features))
    if not is_inside.all():
        wrong = int((~is_inside).nonzero()[0])
        raise ValueError(
            f"query {wrong}, {queries[wrong].tolist()} in frame {int(query_frames[wrong])}, is not "
            f"in a video of {len(features)} frames of {size[1]} x {size[0]} pixels"
        )
