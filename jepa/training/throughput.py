"""How fast training goes, and what it waits for."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from jepa.scaling import measured_matmul_rate, step_flops

SMOOTHING = 0.9


class ThroughputMonitor(Callback):
    """Logs clips per second, the share of time spent waiting for data, and the utilization.

    The utilization (MFU) is the share of the rate that matrix products of the run's precision reach
    on this device, measured at the start (a tenth of a second); the time that counts is that of the
    whole step with its waiting. Only modules that tell their operations have one: see
    `jepa.scaling.flops.Recipe`.
    """

    def __init__(self) -> None:
        self._ended_at: float | None = None
        self._began_at = 0.0
        self._wait_share = 0.0
        self._seconds_per_step = 0.0
        self._rate = self._flops_per_step = 0.0
        self._flops: dict[tuple[int, ...], int] = {}  # of a batch, by its shape

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures what this device can do."""
        if hasattr(pl_module, "target_network"):
            dtype = torch.bfloat16 if "16" in str(trainer.precision) else torch.float32
            self._rate = measured_matmul_rate(trainer.strategy.root_device, dtype)

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
            flops = self._flops_of(pl_module, batch) if self._rate else 0
            self._update(step, wait=self._began_at - self._ended_at, flops=flops)
            clips = len(batch.keys) * trainer.world_size
            pl_module.log_dict(
                {
                    "data/clips_per_second": clips / self._seconds_per_step,
                    "data/wait_share": self._wait_share,
                },
                prog_bar=True,
                rank_zero_only=True,
            )
            if self._rate:
                rate = self._flops_per_step / self._seconds_per_step
                speed = {"teraflops_per_second": rate / 1e12, "utilization": rate / self._rate}
                values = {f"speed/{name}": value for name, value in speed.items()}
                pl_module.log_dict(values, rank_zero_only=True)
        self._ended_at = now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last batch: validating is not waiting for data."""
        self._ended_at = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last batch: what happens between epochs is not waiting for data."""
        self._ended_at = None

    def _flops_of(self, recipe: Any, batch: Any) -> int:  # noqa: ANN401
        """Returns the operations of a step on this device."""
        shape = tuple(batch.video.shape)
        if shape not in self._flops:
            frames, height, width = shape[2:]
            flops = step_flops(recipe, (frames, height, width), batch_size=shape[0])
            self._flops[shape] = flops.total
        return self._flops[shape]

    def _update(self, step: float, *, wait: float, flops: float) -> None:
        weight = SMOOTHING if self._seconds_per_step else 0.0
        self._seconds_per_step = weight * self._seconds_per_step + (1 - weight) * step
        self._flops_per_step = weight * self._flops_per_step + (1 - weight) * flops
        self._wait_share = weight * self._wait_share + (1 - weight) * wait / step
