"""Label propagation: the mask of the first frame is carried on by the likeness of features.

Each patch of a frame takes the labels of the patches it is most like, in the frames just before
and in the first one, and near the same place (Jabri et al., arXiv:2006.14613, Sec. 4.1; settings
of DINOv3, arXiv:2508.10104, Sec. 6.1.3). Nothing is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FAINT = 1e-6  # a share that is nothing but rounding
CHUNK = 1024  # patches of a frame that are compared at once: bounds the memory


@dataclass(frozen=True)
class PropagationSettings:
    """How labels are carried on.

    Args:
        num_context_frames: frames before the one to label that lend their labels, beside the first.
        radius: how far a patch may come from, in patches along each axis (a square window).
        num_neighbours: the most similar patches that count.
        temperature: of the softmax over their cosine similarities.

    Raises:
        ValueError: if a setting is too small.
    """

    num_context_frames: int = 15
    radius: int = 12
    num_neighbours: int = 5
    temperature: float = 0.2

    def __post_init__(self) -> None:
        if min(self.num_context_frames, self.radius, self.num_neighbours - 1) < 0:
            raise ValueError(
                "num_context_frames and radius must be at least 0 and num_neighbours at least 1, "
                f"got {self.num_context_frames}, {self.radius} and {self.num_neighbours}"
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be above 0, got {self.temperature}")


def propagate(
    features: Tensor, first_labels: Tensor, settings: PropagationSettings | None = None
) -> Tensor:
    """Carries the labels of the first frame through a video.

    Args:
        features: (time, rows, columns, dim), of every frame; their length does not matter.
        first_labels: (rows, columns, labels), shares in [0, 1]: how much of a patch is what.
        settings: None for the published ones.

    Returns:
        (time, rows, columns, labels); the first frame's are as given.

    Raises:
        ValueError: if the shapes do not fit.
    """
    settings = settings or PropagationSettings()
    if (
        features.ndim != 4
        or first_labels.ndim != 3
        or first_labels.shape[:2] != features.shape[1:3]
    ):
        raise ValueError(
            "features must be (time, rows, columns, dim) and first_labels (rows, columns, labels) "
            f"of the same grid, got {tuple(features.shape)} and {tuple(first_labels.shape)}"
        )
    grid = (features.shape[1], features.shape[2])
    patches = functional.normalize(features.flatten(1, 2).float(), dim=-1)  # (time, patches, dim)
    labels = [first_labels.flatten(0, 1).float()]
    for time in range(1, len(patches)):
        earlier = [0, *range(max(1, time - settings.num_context_frames), time)]
        labels.append(
            _carried(
                patches[time],
                patches[earlier],
                torch.stack([labels[index] for index in earlier]),
                grid=grid,
                settings=settings,
            )
        )
    return torch.stack(labels).unflatten(1, grid)


def _carried(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    grid: tuple[int, int],
    settings: PropagationSettings,
) -> Tensor:
    """Returns the labels (patches, labels) of one frame.

    Args:
        queries: (patches, dim), of length 1.
        keys: (frames, patches, dim), of length 1.
        labels: (frames, patches, labels).
        grid: rows and columns.
        settings: see `PropagationSettings`.
    """
    row, column = (torch.arange(len(queries)) // grid[1]), (torch.arange(len(queries)) % grid[1])
    carried = []
    for chunk in torch.arange(len(queries)).split(CHUNK):
        similar = torch.einsum("qd,fkd->qfk", queries[chunk], keys)
        is_far = ((row[chunk, None] - row).abs() > settings.radius) | (
            (column[chunk, None] - column).abs() > settings.radius
        )  # (chunk, patches)
        similar = similar.masked_fill(is_far.unsqueeze(1), -torch.inf).flatten(1)
        count = min(settings.num_neighbours, similar.shape[1])
        best, indices = similar.topk(count, dim=1)  # (chunk, neighbours)
        weights = (best / settings.temperature).softmax(1)
        carried.append(torch.einsum("qn,qnl->ql", weights, labels.flatten(0, 1)[indices]))
    return torch.cat(carried)


def patch_shares(object_ids: Tensor, ids: list[int], grid: tuple[int, int]) -> Tensor:
    """Returns how much of each patch belongs to each object: (rows, columns, len(ids)).

    Args:
        object_ids: (height, width), integers.
        ids: of the objects, in the order of the last axis.
        grid: rows and columns of patches.
    """
    masks = torch.stack([(object_ids == number).float() for number in ids])  # (ids, height, width)
    return functional.adaptive_avg_pool2d(masks, grid).permute(1, 2, 0)


def upsampled_ids(labels: Tensor, ids: list[int], size: tuple[int, int]) -> Tensor:
    """Returns the strongest object of each pixel: (time, height, width), int64.

    Each object's shares are stretched to [0, 1] in every frame first, as in DINO's evaluation
    (arXiv:2104.14294): what is carried on fades, and small objects would be lost first.

    Args:
        labels: (time, rows, columns, len(ids)).
        ids: of the objects, in the order of the last axis.
        size: height and width in pixels.
    """
    shares = labels.permute(0, 3, 1, 2)  # (time, ids, rows, columns)
    low, high = shares.amin((2, 3), keepdim=True), shares.amax((2, 3), keepdim=True)
    shares = (shares - low) / (high - low).clamp_min(FAINT)
    large = functional.interpolate(shares, size=size, mode="bilinear", align_corners=False)
    return torch.tensor(ids)[large.argmax(1)]
