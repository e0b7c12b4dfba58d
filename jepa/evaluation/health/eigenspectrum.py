"""How many directions a representation uses: its eigenspectrum, alpha-ReQ and LiDAR.

The effective rank itself (RankMe) is `jepa.training.collapse.effective_rank`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.training.collapse import rank_of, singular_values

NOISE_FLOOR = 1e-6  # of the largest eigenvalue: single precision has no more to say
LEAST_EIGENVALUES = 3  # a line through fewer says nothing
LIDAR_REGULARIZATION = 1e-4  # of the embeddings' mean variance; the paper has 1e-4 by itself


@torch.no_grad()
def eigenspectrum(features: Tensor) -> Tensor:
    """Returns the eigenvalues of the covariance of features, the largest first, with sum 1.

    Args:
        features: (rows, dim).

    Returns:
        (min(rows, dim),); all 0 if nothing varies.

    Raises:
        ValueError: if the layout is another one.
    """
    variances = singular_values(features).square()
    return variances / variances.sum().clamp_min(1e-24)


@torch.no_grad()
def alpha_req(spectrum: Tensor) -> Tensor:
    """Returns the exponent of the power law that a spectrum follows: eigenvalue i is ~ i ** -alpha.

    alpha-ReQ (Agrawal et al., NeurIPS 2022). The line is fitted in the logarithms by least squares
    with weights 1 / i, so that every octave counts the same; the paper fits a range chosen by hand.
    Large: few directions hold all; 0: all directions hold the same. Near 1 the paper finds the best
    readout.

    Args:
        spectrum: (values,), the largest first; from `eigenspectrum`.

    Returns:
        A scalar; not a number if fewer than 3 eigenvalues are above rounding.
    """
    values = spectrum.double()
    values = values[values > NOISE_FLOOR * values.max()]
    if len(values) < LEAST_EIGENVALUES:
        return spectrum.new_tensor(float("nan"))
    index = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)
    weights = (1 / index) / (1 / index).sum()
    x, y = index.log(), values.log()
    x, y = x - (weights * x).sum(), y - (weights * y).sum()
    return -((weights * x * y).sum() / (weights * x * x).sum()).to(spectrum.dtype)


@torch.no_grad()
def lidar(views: Tensor) -> Tensor:
    """Returns the effective rank of what tells clips apart: LiDAR (arXiv:2312.04000, Sec. 4).

    Directions in which views of one clip differ as much as clips do carry nothing, and do not
    count. As in the paper for masked models, views of a clip are its embeddings under several
    masks. The regularization of the covariance within clips is relative to the variance, so that
    the scale of the embeddings makes no difference; the entropy is of eigenvalues over their sum.

    Args:
        views: (clips, views, dim), at least 2 of each.

    Returns:
        A scalar in [1, min(clips - 1, dim)]; 1 if clips do not differ.

    Raises:
        ValueError: if the layout is another one.
    """
    if views.ndim != 3 or min(views.shape[:2]) < 2:
        raise ValueError(
            "views must be (clips, views, dim) with at least 2 clips and 2 views, got "
            f"{tuple(views.shape)}"
        )
    views = views.double()
    centres = views.mean(1)  # (clips, dim)
    within = (views - centres.unsqueeze(1)).flatten(0, 1)
    between = centres - centres.mean(0)
    within_covariance = within.T @ within / len(within)
    variance = (views - views.mean((0, 1))).square().mean()
    if not variance.isfinite() or variance <= 0:
        return views.new_tensor(1.0 if variance <= 0 else float("nan"))
    unit = torch.eye(views.shape[-1]).to(views)
    lower = torch.linalg.cholesky(within_covariance + LIDAR_REGULARIZATION * variance * unit)
    whitened = torch.linalg.solve_triangular(lower, between.T, upper=False)  # (dim, clips)
    return rank_of(torch.linalg.svdvals(whitened).square())
