"""How fast training goes, and what it waits for."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

SMOOTHING = 0.9


class ThroughputMonitor(Callback):
    """Logs clips per second, and the share of time between steps: mostly waiting for data."""

    def __init__(self) -> None:
        self._ended_at: float | None = None
        self._began_at = 0.0
        self._wait_share = 0.0
        self._seconds_per_step = 0.0

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Notes when the batch arrived."""
        self._began_at = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Logs the smoothed figures."""
        now = time.perf_counter()
        if self._ended_at is not None:
            step = now - self._ended_at
            self._update(step, wait=self._began_at - self._ended_at)
            clips = len(batch.keys) * trainer.world_size
            pl_module.log_dict(
                {
                    "data/clips_per_second": clips / self._seconds_per_step,
                    "data/wait_share": self._wait_share,
                },
                prog_bar=True,
                rank_zero_only=True,
            )
        self._ended_at = now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last batch: validating is not waiting for data."""
        self._ended_at = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last batch: what happens between epochs is not waiting for data."""
        self._ended_at = None

    def _update(self, step: float, *, wait: float) -> None:
        weight = SMOOTHING if self._seconds_per_step else 0.0
        self._seconds_per_step = weight * self._seconds_per_step + (1 - weight) * step
        self._wait_share = weight * self._wait_share + (1 - weight) * wait / step
