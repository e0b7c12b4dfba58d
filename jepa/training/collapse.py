"""Is the representation healthy? A loss curve does not tell: a collapsed encoder has a low loss."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
MAX_ROWS = 4096  # singular values of more rows cost time and change little


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Returns exp(entropy of the normalised singular values): RankMe (arXiv:2210.02885, Eq. 1).

    Computed on centred features, so a constant offset does not count as a dimension.

    Args:
        features: (rows, dim).

    Returns:
        A scalar in [1, min(rows, dim)]; 1 if nothing varies.

    Raises:
        ValueError: if the layout is another one.
    """
    if features.ndim != 2:
        raise ValueError(f"features must be (rows, dim), got {tuple(features.shape)}")
    features = features.float()
    if not features.isfinite().all():  # svdvals would raise a riddle
        return features.new_tensor(float("nan"))
    if len(features) > MAX_ROWS:  # spread evenly, with no period that a token grid could share
        features = features[torch.linspace(0, len(features) - 1, MAX_ROWS).long()]
    singular = torch.linalg.svdvals(features - features.mean(0))
    share = singular / singular.sum().clamp_min(1e-12)
    return torch.exp(torch.special.entr(share).sum())


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Returns the standard deviation of features (rows, dim) over rows, mean over dimensions."""
    return features.float().std(0).mean()


@torch.no_grad()
def target_online_distance(target: nn.Module, online: nn.Module) -> Tensor:
    """Returns |target - online| / |online| over all parameters: 0 if they are the same."""
    pairs = list(zip(target.parameters(), online.parameters(), strict=True))
    difference = torch.stack([(slow - fast).float().norm() for slow, fast in pairs]).norm()
    return difference / torch.stack([fast.float().norm() for _, fast in pairs]).norm()


class CollapseMonitor:
    """Measures token features now and then, and says it once when they collapse.

    Args:
        every_n_steps: optimizer steps between two measurements.
        min_rank_fraction: warn when the effective rank falls below this share of the dimensions.
        min_std: warn when the feature standard deviation falls below this.
    """

    def __init__(self, *, every_n_steps: int, min_rank_fraction: float, min_std: float) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.min_rank_fraction = min_rank_fraction
        self.min_std = min_std
        self.warned = False

    def is_due(self, step: int) -> bool:
        """True at the first step, and at the last of every n, which is the one that is logged."""
        return step == 0 or (step + 1) % self.every_n_steps == 0

    def measure(self, tokens: Tensor, target: nn.Module, online: nn.Module) -> dict[str, Tensor]:
        """Returns what to log for target tokens (batch, tokens, dim).

        The rank is measured twice: over all tokens, where different places keep it up, and over
        clips (mean token of each), where they cannot.
        """
        rows = tokens.flatten(0, 1)
        report = {
            "collapse/effective_rank": effective_rank(rows),
            "collapse/clip_rank": effective_rank(tokens.float().mean(1)),
            "collapse/feature_std": feature_std(rows),
            "collapse/target_online_distance": target_online_distance(target, online),
        }
        self._warn(report, dim=tokens.shape[-1])
        return report

    def _warn(self, report: dict[str, Tensor], *, dim: int) -> None:
        rank, std = report["collapse/effective_rank"], report["collapse/feature_std"]
        floor = self.min_rank_fraction * dim
        if not self.warned and (rank < floor or std < self.min_std):
            self.warned = True
            logger.warning(
                "the representation is collapsing: effective rank %.1f of %d (floor %.1f), feature "
                "std %.4f (floor %.4f); raise the EMA momentum, or lower the learning rate",
                rank.item(), dim, floor, std.item(), self.min_std,
            )  # fmt: skip
