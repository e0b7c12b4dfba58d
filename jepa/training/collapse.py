"""Is the representation healthy? A loss curve does not tell: a collapsed encoder has a low loss.

Measured now and then, on at most `MAX_ROWS` tokens, in every run; what share of the time that takes
is measured too (`health/seconds_share`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from jepa.objectives.ranks import num_ranks, sum_over_ranks

logger = logging.getLogger(__name__)
MAX_ROWS = 4096  # singular values of more rows cost time and change little
LEAST_RANK = 1.5  # 1 is one direction; a floor below it would never be met
DEAD_SHARE = 0.01  # of the median dimension's standard deviation: what varies less is dead


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
    return rank_of(singular_values(features))


@torch.no_grad()
def singular_values(features: Tensor) -> Tensor:
    """Returns the singular values of centred features, the largest first: (min(rows, dim),).

    Args:
        features: (rows, dim); of more than `MAX_ROWS`, as many are taken.

    Returns:
        Not a number, all of them, if a feature is none.

    Raises:
        ValueError: if the layout is another one.
    """
    if features.ndim != 2:
        raise ValueError(f"features must be (rows, dim), got {tuple(features.shape)}")
    features = at_most(MAX_ROWS, features).float()
    if not features.isfinite().all():  # svdvals would raise a riddle
        return features.new_full((min(features.shape),), float("nan"))
    return torch.linalg.svdvals(features - features.mean(0))


def rank_of(singular: Tensor) -> Tensor:
    """Returns exp(entropy of singular values (values,) over their sum); see `effective_rank`."""
    share = singular / singular.sum().clamp_min(1e-12)
    return torch.exp(torch.special.entr(share).sum())


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Returns the standard deviation of features (rows, dim) over rows, mean over dimensions."""
    return features.float().std(0).mean()


@torch.no_grad()
def clip_std(tokens: Tensor) -> Tensor:
    """Returns how much clips differ: the standard deviation over clips, at the same place.

    Places alone keep the rank of all tokens up; where this is 0, all clips have the same tokens.

    Args:
        tokens: (batch, tokens, dim).

    Returns:
        A scalar, the mean over places and dimensions; 0 for a single clip.
    """
    return tokens.float().std(0, correction=0).mean()


@torch.no_grad()
def clip_cosine(tokens: Tensor) -> Tensor:
    """Returns the mean cosine similarity of two different clips' mean tokens, a scalar in [-1, 1].

    Args:
        tokens: (batch, tokens, dim); of a single clip the similarity is 1.
    """
    if len(tokens) < 2:
        return tokens.new_ones(())
    directions = F.normalize(tokens.float().mean(1), dim=1)  # (batch, dim)
    num_clips = len(directions)
    return (directions.sum(0).square().sum() - num_clips) / (num_clips * (num_clips - 1))


@torch.no_grad()
def dead_dimensions(features: Tensor) -> Tensor:
    """Returns the share of dimensions of (rows, dim) that hardly vary, against the median one."""
    std = features.float().std(0)
    return (std <= DEAD_SHARE * std.median()).float().mean()


@torch.no_grad()
def target_online_distance(target: nn.Module, online: nn.Module) -> Tensor:
    """Returns |target - online| / |online| over all parameters: 0 if they are the same.

    Of sharded modules it is that of the whole ones, so every rank has to call this.
    """
    pairs = [
        (_here(slow).float(), _here(fast).float())
        for slow, fast in zip(target.parameters(), online.parameters(), strict=True)
    ]
    squares = torch.stack(
        [
            torch.stack([(slow - fast).square().sum() for slow, fast in pairs]).sum(),
            torch.stack([fast.square().sum() for _, fast in pairs]).sum(),
        ]
    )
    if any(isinstance(parameter, DTensor) for parameter in online.parameters()):
        squares = sum_over_ranks(squares)
    return (squares[0] / squares[1]).sqrt()


@dataclass(frozen=True)
class CollapsePolicy:
    """What counts as collapse, and what happens then.

    Args:
        on_collapse: say it, once, or stop the run as well.
        min_rank_fraction: the effective rank of all tokens must not be below this share of the
            dimensions, in [0, 1], nor below 1.5; 0: any rank will do.
        min_std: neither the standard deviation of a dimension over tokens nor that over clips must
            be below this; targets have a norm of about 1 a dimension.
        patience: measurements in a row that have to be bad.
    """

    on_collapse: Literal["warn", "stop"] = "warn"
    min_rank_fraction: float = 0.03
    min_std: float = 0.01
    patience: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.min_rank_fraction <= 1 or not self.min_std >= 0 or self.patience < 1:
            raise ValueError(
                "min_rank_fraction must be in [0, 1], min_std at least 0 and patience at least 1, "
                f"got {self.min_rank_fraction}, {self.min_std} and {self.patience}"
            )

    def rank_floor(self, dim: int) -> float:
        """Returns the effective rank of tokens with `dim` dimensions that counts as collapse."""
        return max(self.min_rank_fraction * dim, LEAST_RANK * (self.min_rank_fraction > 0))


class CollapseMonitor:
    """Measures token features now and then, and says it once when they collapse.

    Args:
        policy: what counts as collapse, and what happens then. None: `CollapsePolicy`.
        every_n_steps: optimizer steps between two measurements.
    """

    def __init__(self, policy: CollapsePolicy | None = None, *, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.policy = policy or CollapsePolicy()
        self.every_n_steps = every_n_steps
        self.warned = self._is_told = False
        self._bad_in_a_row = 0
        self._ended_at: float | None = None

    def is_due(self, step: int) -> bool:
        """True at the first step, and at the last of every n, which is the one that is logged."""
        return is_due(step, every_n_steps=self.every_n_steps)

    def state_dict(self) -> dict[str, int]:
        """Returns what a resumed run has to know; it warns anew, as its log is a new one."""
        return {"bad_in_a_row": self._bad_in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes what `state_dict` gave."""
        self._bad_in_a_row = state["bad_in_a_row"]

    def measure(
        self,
        tokens: Tensor,
        target: nn.Module | None = None,
        online: nn.Module | None = None,
        *,
        is_trained: bool = True,
    ) -> dict[str, Tensor]:
        """Returns what to log for target tokens (batch, tokens, dim). Every rank has to call this.

        Everything is of this rank's batch; collapse is when it is one on all ranks.

        Args:
            tokens: (batch, tokens, dim).
            target: the encoder that follows, if there is one.
            online: the encoder that it follows.
            is_trained: False before the first update, when nothing can have collapsed yet.

        Raises:
            ValueError: if the representation has collapsed and the policy says to stop.
        """
        began_at, tokens = time.perf_counter(), tokens.detach()
        rows = at_most(MAX_ROWS, tokens.flatten(0, 1))
        report = {
            "collapse/effective_rank": effective_rank(rows),
            "collapse/clip_rank": effective_rank(tokens.float().mean(1)),
            "collapse/feature_std": feature_std(rows),
            "collapse/clip_std": clip_std(tokens),
            "collapse/clip_cosine": clip_cosine(tokens),
            "collapse/dead_dimensions": dead_dimensions(rows),
        }
        if target is not None and online is not None and target is not online:
            report["collapse/target_online_distance"] = target_online_distance(target, online)
        if is_trained:
            self._judge(report, dim=tokens.shape[-1], num_clips=len(tokens))
        if self._ended_at is not None:  # its share of the time since the last one
            now = time.perf_counter()
            report["health/seconds_share"] = torch.tensor((now - began_at) / (now - self._ended_at))
        self._ended_at = time.perf_counter()
        return report

    def _judge(self, report: dict[str, Tensor], *, dim: int, num_clips: int) -> None:
        policy = self.policy
        floor = policy.rank_floor(dim)
        names = ("effective_rank", "feature_std", "clip_std")
        rank, std, between_clips = (report[f"collapse/{name}"].item() for name in names)
        low_between = num_clips > 1 and between_clips < policy.min_std
        is_low = rank < floor or std < policy.min_std or low_between
        is_bad = on_all_ranks(is_low, device=report["collapse/feature_std"].device)
        self._bad_in_a_row = self._bad_in_a_row + 1 if is_bad else 0
        self._is_told = self._is_told and is_bad  # one that recovers may collapse again
        if self._bad_in_a_row < policy.patience:
            return
        line = (
            f"the representation is collapsing: effective rank {rank:.1f} of {dim} (floor "
            f"{floor:.1f}), feature std {std:.4f}, std between clips {between_clips:.4f} (floor "
            f"{policy.min_std:g}); raise the EMA momentum or the regularizers' weight, lower the "
            "learning rate, or hide more (docs/training.md)"
        )
        if policy.on_collapse == "stop":
            raise ValueError(f"{line}; on_collapse=warn goes on")
        if not self._is_told and rank_zero_only.rank == 0:
            logger.warning("%s", line)
        self.warned = self._is_told = True


def is_due(step: int, *, every_n_steps: int) -> bool:
    """True at the first step, and at the last of every n."""
    return step == 0 or (step + 1) % every_n_steps == 0


def at_most(limit: int, rows: Tensor) -> Tensor:
    """Returns at most `limit` rows (rows, ...), evenly spread, with no period of a token grid."""
    if len(rows) <= limit:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, limit, device=rows.device).long()]


def _here(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def on_all_ranks(condition: bool, *, device: torch.device) -> bool:
    """Returns whether a condition is met on all ranks: one rank's batch may be odd."""
    return sum_over_ranks(torch.tensor(float(condition), device=device)).item() == num_ranks()
