"""Linear heads on frozen patch features: what can be read off each patch by itself.

`train_head` is the head that is published (DINOv2, arXiv:2304.07193, Sec. 7.4): batch norm and one
linear layer, trained on the pixels of its upsampled output. `fit_closed_form` fits ridge or
logistic regression on patches instead: a few seconds on a processor, no learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

PENALTIES = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
MAX_PATCHES = 20000  # rows of a closed form: more cost time, and change little

Targets = Tensor  # (pictures, height, width): int64 classes, or float32 values; see `unknown`


class Reads(Protocol):
    """What was fitted: patch features to a picture of numbers."""

    def __call__(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Reads features (pictures, rows, columns, dim).

        Returns:
            (pictures, outputs, height, width): class scores, or one value.
        """
        ...


class LinearHead(nn.Module):
    """Batch norm and one linear layer, the same at every patch; then bilinear upsampling."""

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.linear = nn.Conv2d(dim, num_outputs, kernel_size=1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Reads features (pictures, rows, columns, dim) as pictures of `size`; see `Reads`."""
        outputs = self.linear(self.norm(features.float().permute(0, 3, 1, 2)))
        return upsampled(outputs, size)


def upsampled(outputs: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns (pictures, outputs, rows, columns) at another size, bilinearly."""
    return functional.interpolate(outputs, size=size, mode="bilinear", align_corners=False)


def class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of pixels; those below 0 are not scored."""
    is_known = targets >= 0
    return functional.cross_entropy(outputs.movedim(1, -1)[is_known], targets[is_known])


def value_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of pixels; NaN are not scored."""
    is_known = ~targets.isnan()
    return functional.mse_loss(outputs[:, 0][is_known], targets[is_known])


def train_head(
    features: Tensor,
    targets: Targets,
    num_outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    num_steps: int = 500,
    batch_size: int = 16,
    learning_rate: float = 3e-2,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> LinearHead:
    """Trains a head with AdamW and a cosine schedule; returns it in evaluation mode.

    Args:
        features: (pictures, rows, columns, dim), frozen.
        targets: (pictures, height, width).
        num_outputs: classes, or 1.
        loss: `class_loss` or `value_loss`.
        num_steps: batches.
        batch_size: pictures drawn for each.
        learning_rate: at the start; it falls to 0.
        weight_decay: of the linear layer.
        seed: of weights and batches.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = LinearHead(features.shape[-1], num_outputs)
    if loss is value_loss:  # begins at the mean: the picture explains the rest
        nn.init.constant_(head.linear.bias, float(targets.nanmean()))  # pyright: ignore
    optimizer = torch.optim.AdamW(head.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    size = (targets.shape[1], targets.shape[2])
    for _ in range(num_steps):
        batch = torch.randint(len(features), (batch_size,), generator=generator)
        if not _has_known(targets[batch]):
            continue
        optimizer.zero_grad()
        loss(head(features[batch], size), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return head.eval().requires_grad_(False)


def fit_closed_form(
    features: Tensor,
    targets: Targets,
    num_outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int = 0,
) -> Reads:
    """Fits logistic (`class_loss`) or ridge regression (`value_loss`) on patches.

    The target of a patch is the class of most of its pixels, or the mean of its values. The penalty
    of the ridge is chosen by leave-one-out. At most `MAX_PATCHES` patches are drawn.

    Args:
        features: (pictures, rows, columns, dim).
        targets: (pictures, height, width).
        num_outputs: classes, or 1.
        loss: says which of the two.
        seed: of the draw.

    Raises:
        ValueError: if fewer than 2 classes, or 2 patches, are labelled.
    """
    is_class = loss is class_loss
    grid = (features.shape[1], features.shape[2])
    rows = features.flatten(0, 2).float().numpy()  # (patches, dim)
    wanted = (_patch_classes if is_class else _patch_values)(targets, grid, num_outputs).numpy()
    known = np.flatnonzero(wanted >= 0 if is_class else ~np.isnan(wanted))
    if len(known) > MAX_PATCHES:
        known = np.random.default_rng(seed).choice(known, MAX_PATCHES, replace=False)
    classes = np.unique(wanted[known])
    if len(known) < 2 or (is_class and len(classes) < 2):
        raise ValueError(
            f"a head needs at least 2 labelled patches, and 2 classes; got {len(known)} patches "
            f"with {len(classes)} different labels"
        )
    model = LogisticRegression(max_iter=300) if is_class else RidgeCV(alphas=PENALTIES)
    probe = make_pipeline(StandardScaler(), model).fit(
        rows[known].astype(np.float64), wanted[known]
    )
    return _ClosedForm(probe, num_outputs, is_class=is_class)


class _ClosedForm:
    """A fitted regression as something that reads pictures."""

    def __init__(self, probe: Any, num_outputs: int, *, is_class: bool) -> None:  # noqa: ANN401
        self._probe, self._num_outputs, self._is_class = probe, num_outputs, is_class

    def __call__(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Reads features; see `Reads`."""
        rows = features.flatten(0, 2).numpy().astype(np.float64)
        if self._is_class:
            outputs = np.full((len(rows), self._num_outputs), -1e3)  # of classes never seen
            outputs[:, self._probe.classes_.astype(int)] = self._probe.predict_log_proba(rows)
        else:
            outputs = self._probe.predict(rows).reshape(-1, 1)
        grids = torch.from_numpy(outputs).float().unflatten(0, tuple(features.shape[:3]))
        return upsampled(grids.permute(0, 3, 1, 2), size)


def _has_known(targets: Tensor) -> bool:
    return bool((~targets.isnan() if targets.is_floating_point() else targets >= 0).any())


def _patch_classes(targets: Tensor, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Returns the class of most pixels of each patch, -1 where none is labelled: (patches,)."""
    shares = torch.stack(
        [
            functional.adaptive_avg_pool2d((targets == number).float(), grid)
            for number in range(num_classes)
        ]
    )  # (classes, pictures, rows, columns)
    most, classes = shares.max(0)
    return torch.where(most > 0, classes, -1).flatten()


def _patch_values(targets: Tensor, grid: tuple[int, int], num_outputs: int) -> Tensor:
    """Returns the mean of what is known in each patch, NaN where nothing is: (patches,)."""
    is_known = ~targets.isnan()
    total = functional.adaptive_avg_pool2d(targets.nan_to_num(0.0), grid)
    return (total / functional.adaptive_avg_pool2d(is_known.float(), grid)).flatten()
