"""What happens when a loss is no number, or leaps: the update is skipped, or the run stops.

Nothing is swallowed: a skipped update is counted, logged with its step and samples, and after
several in a row the run stops.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from jepa.objectives.ranks import num_ranks, sum_over_ranks

logger = logging.getLogger(__name__)
SHOWN_KEYS = 4
WAY_OUT = "the last checkpoint is from before: lower the learning rate, or look at these samples"
LOSSES_FOR_A_MEDIAN = 10  # fewer say little about what is usual


@dataclass(frozen=True)
class LossPolicy:
    """When an update is not made.

    Args:
        on_non_finite: a loss or gradient that is NaN or infinite stops the run, or skips the
            update. (With precision 16-mixed the loss scaler handles gradients that overflow.)
        max_loss_spike: skip an update whose loss is more than this many times the median of the
            last `window_updates`; None: loss spikes are let through. At least 1.
        window_updates: updates that the median is taken over.
        max_skips_in_a_row: more of them stop the run.
    """

    on_non_finite: Literal["stop", "skip"] = "stop"
    max_loss_spike: float | None = None
    window_updates: int = 100
    max_skips_in_a_row: int = 10

    def __post_init__(self) -> None:
        if self.max_loss_spike is not None and not self.max_loss_spike > 1:
            raise ValueError(f"max_loss_spike must be above 1, got {self.max_loss_spike}")
        if self.window_updates < LOSSES_FOR_A_MEDIAN or self.max_skips_in_a_row < 1:
            raise ValueError(
                f"window_updates must be at least {LOSSES_FOR_A_MEDIAN} and max_skips_in_a_row "
                f"at least 1, got {self.window_updates} and {self.max_skips_in_a_row}"
            )


class LossWatch:
    """Judges one update after the other by a policy, on all ranks alike.

    Args:
        policy: when an update is not made.
    """

    def __init__(self, policy: LossPolicy) -> None:
        self.policy = policy
        self.num_skipped = 0
        self.skipped_in_a_row = 0
        self._usual: deque[float] = deque(maxlen=policy.window_updates)  # of updates made
        self._losses: list[Tensor] = []  # of the batches that make up the next update
        self._keys: list[str] = []

    def note(self, loss: Tensor, keys: Sequence[str]) -> None:
        """Notes the loss of a batch, and its samples; several times an update if accumulated."""
        self._losses.append(loss.detach().float())
        self._keys += keys

    def allows_update(self, gradient_norm: Tensor, *, step: int) -> bool:
        """Says whether the update may be made. Every rank has to ask, or the others wait.

        Args:
            gradient_norm: of all gradients, a scalar.
            step: of the update, for the message.

        Raises:
            ValueError: if the policy says to stop; the weights are still those before.
        """
        losses, keys = torch.stack(self._losses).mean(), self._keys
        self._losses, self._keys = [], []
        loss, norm = _mean_over_ranks(torch.stack([losses, gradient_norm.float()]))
        complaint = self._complaint(loss, norm)
        if complaint is None:
            self._usual.append(loss)
            self.skipped_in_a_row = 0
            return True
        line = f"{complaint} at step {step} (samples {_samples(losses.item(), keys)})"
        self._stop_or_count(line, is_finite=math.isfinite(loss) and math.isfinite(norm))
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run has to know."""
        return {
            "usual": list(self._usual),
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state; the policy stays the configured one."""
        self._usual = deque(state["usual"], maxlen=self.policy.window_updates)
        self.num_skipped = state["num_skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]

    def _complaint(self, loss: float, gradient_norm: float) -> str | None:
        """Returns why an update must not be made, None if it may be."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the loss is {loss:.4g} but the norm of its gradient {gradient_norm}"
        factor = self.policy.max_loss_spike
        if factor is None or len(self._usual) < LOSSES_FOR_A_MEDIAN:
            return None
        usual = median(self._usual)
        if loss <= factor * usual:
            return None
        return (
            f"the loss is {loss:.4g}, more than max_loss_spike={factor:g} times {usual:.4g}, the "
            f"median of the last {len(self._usual)} updates,"
        )

    def _stop_or_count(self, line: str, *, is_finite: bool) -> None:
        if not is_finite and self.policy.on_non_finite == "stop":
            raise ValueError(f"{line}; {WAY_OUT}")
        self.num_skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > self.policy.max_skips_in_a_row:
            raise ValueError(
                f"{line}; {self.skipped_in_a_row} updates in a row would be skipped, more than "
                f"max_skips_in_a_row={self.policy.max_skips_in_a_row}; {WAY_OUT}"
            )
        if rank_zero_only.rank == 0:
            logger.warning("%s: update skipped, %d in all", line, self.num_skipped)


def _mean_over_ranks(numbers: Tensor) -> list[float]:
    return (sum_over_ranks(numbers) / num_ranks()).tolist()


def _samples(loss: float, keys: Sequence[str]) -> str:
    """Returns the first samples of the ranks that brought the trouble, the same line on all."""
    mine = (loss if math.isfinite(loss) else math.inf, list(keys[:SHOWN_KEYS]))
    ranks: list[Any] = [mine]
    if num_ranks() > 1:
        ranks = [None] * num_ranks()
        torch.distributed.all_gather_object(ranks, mine)
    worst = max(loss for loss, _ in ranks)
    shown = [key for loss, keys in ranks if loss == worst for key in keys]
    return f"{', '.join(shown[:SHOWN_KEYS])}, ..."
