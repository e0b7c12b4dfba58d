"""What happens when a loss is no number, or leaps: it is told, the update skipped, the run stopped.

Nothing is swallowed: a skipped update is counted, logged with its step and samples, and after
several in a row, or too many in all, the run stops.
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
WAY_OUT = "lower the learning rate, or look at these samples"
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
        max_skips: more of them in the whole run, over all resumes, stop it.
        warn_loss_spike: warn of a loss that is more than this many times the median, once until
            losses are usual again, though its update is made; None: not. At least 1.
    """

    on_non_finite: Literal["stop", "skip"] = "stop"
    max_loss_spike: float | None = None
    window_updates: int = 100
    max_skips_in_a_row: int = 10
    max_skips: int = 100
    warn_loss_spike: float | None = 5.0

    def __post_init__(self) -> None:
        for name in ("max_loss_spike", "warn_loss_spike"):
            factor = getattr(self, name)
            if factor is not None and not factor > 1:
                raise ValueError(f"{name} must be above 1, got {factor}")
        if self.window_updates < LOSSES_FOR_A_MEDIAN or self.max_skips_in_a_row < 1:
            raise ValueError(
                f"window_updates must be at least {LOSSES_FOR_A_MEDIAN} and max_skips_in_a_row "
                f"at least 1, got {self.window_updates} and {self.max_skips_in_a_row}"
            )
        if self.max_skips < self.max_skips_in_a_row:
            raise ValueError(
                f"max_skips={self.max_skips} must be at least max_skips_in_a_row="
                f"{self.max_skips_in_a_row}"
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
        self.num_spikes = 0  # that were let through, each episode once
        self._is_spiking = False
        self._usual: deque[float] = deque(maxlen=policy.window_updates)  # of updates made
        self._losses: list[Tensor] = []  # of the batches that make up the next update
        self._keys: list[str] = []

    def note(self, loss: Tensor, keys: Sequence[str]) -> None:
        """Notes the loss of a batch, and its samples; several times an update if accumulated."""
        self._losses.append(loss.detach().float())
        self._keys += keys

    def allows_update(
        self, gradient_norm: Tensor, *, step: int, last_checkpoint: str = "no checkpoint yet"
    ) -> bool:
        """Says whether the update may be made. Every rank has to ask, or the others wait.

        Args:
            gradient_norm: of all gradients, a scalar.
            step: of the update, for the message.
            last_checkpoint: where it is, for the message.

        Raises:
            ValueError: if the policy says to stop; the weights are still those before.
        """
        losses, keys = torch.stack(self._losses).mean(), self._keys
        self._losses, self._keys = [], []
        loss, norm = _mean_over_ranks(torch.stack([losses, gradient_norm.float()]))
        trouble = _trouble(loss, norm)
        spike = "" if trouble else self._spike(loss, self.policy.max_loss_spike)
        where = f" at step {step} (samples "
        if not trouble and not spike:
            if told := self._new_spike(loss):
                line = f"{told}{where}{_samples(losses.item(), keys)})"
                _warn(f"{line}; its update is made (max_loss_spike leaves such ones out)")
            self._usual.append(loss)
            self.skipped_in_a_row = 0
            return True
        is_one_ranks = not math.isfinite(loss) or bool(spike)  # a gradient is a mean over ranks
        samples = _samples(losses.item() if is_one_ranks else math.nan, keys)
        line = f"{trouble or spike}{where}{samples})"
        self._stop_or_count(line, is_finite=bool(spike), last_checkpoint=last_checkpoint)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run has to know."""
        return {
            "usual": list(self._usual),
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "num_spikes": self.num_spikes,
            "is_spiking": self._is_spiking,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state; the policy stays the configured one."""
        self._usual = deque(state["usual"], maxlen=self.policy.window_updates)
        self.num_skipped = state["num_skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.num_spikes, self._is_spiking = state["num_spikes"], state["is_spiking"]

    def _spike(self, loss: float, factor: float | None) -> str:
        """Returns in words that a loss is so many times the usual, nothing if it is not."""
        if factor is None or len(self._usual) < LOSSES_FOR_A_MEDIAN:
            return ""
        usual = median(self._usual)
        if usual <= 0 or loss <= factor * usual:  # of a loss below zero no multiple is a leap
            return ""
        return (
            f"the loss is {loss:.4g}, more than {factor:g} times {usual:.4g}, the "
            f"median of the last {len(self._usual)} updates,"
        )

    def _new_spike(self, loss: float) -> str:
        """Returns what is to be told of a spike that is let through, once as long as it lasts."""
        spike = self._spike(loss, self.policy.warn_loss_spike)
        is_new = bool(spike) and not self._is_spiking
        self._is_spiking = bool(spike)
        self.num_spikes += is_new
        return spike if is_new else ""

    def _stop_or_count(self, line: str, *, is_finite: bool, last_checkpoint: str) -> None:
        way_out = f"no weight was changed, {last_checkpoint}; {WAY_OUT}"
        if not is_finite and self.policy.on_non_finite == "stop":
            raise ValueError(f"{line}; {way_out}")
        self.num_skipped += 1
        self.skipped_in_a_row += 1
        for count, name, how in (
            (self.skipped_in_a_row, "max_skips_in_a_row", "in a row"),
            (self.num_skipped, "max_skips", "in all"),
        ):
            if count > getattr(self.policy, name):
                raise ValueError(
                    f"{line}; {count} updates {how} would be skipped, more than "
                    f"{name}={getattr(self.policy, name)}; {way_out}"
                )
        _warn(f"{line}: update skipped, {self.num_skipped} in all")


def _trouble(loss: float, gradient_norm: float) -> str:
    """Returns in words what is no number, nothing if both are."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if not math.isfinite(gradient_norm):
        return f"the loss is {loss:.4g} but the norm of its gradient {gradient_norm}"
    return ""


def _warn(line: str) -> None:
    if rank_zero_only.rank == 0:
        logger.warning("%s", line)


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
