"""What every training here shares: rates, clipping, skipped updates, shards and blocks.

A subclass says what is trained and how far a batch is from right; what becomes of the gradient is
said here, once.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from jepa.masking.base import step_seed
from jepa.training.gradients import GradientClipping, drop_gradients, gradient_norm
from jepa.training.learning_rate_scaling import LearningRateScaling
from jepa.training.loss_policy import LossPolicy, LossWatch
from jepa.training.model_blocks import checkpoint_blocks, compile_blocks
from jepa.training.optimizers import adamw
from jepa.training.schedules import Schedule, WarmupCosine
from jepa.training.sharding import is_sharded, shard_over
from jepa.training.starting_weights import (
    read_checkpoint,
    refuse_another_architecture,
    refuse_other_weights,
)
from jepa.training.state_list import note_entries, refuse_other_entries

logger = logging.getLogger(__name__)


class OptimizedModule(L.LightningModule):
    """A LightningModule whose parts are trained by AdamW.

    Args:
        learning_rate: that of the schedule's share 1, before scaling; positive.
        weight_decay: that of the decay schedule's share 1; of matrices only.
        schedule: of the learning rate. None: `WarmupCosine`.
        weight_decay_schedule: of the weight decay. None: constant.
        learning_rate_scaling: how the learning rate follows the global batch. None: not.
        gradient_clipping: of each trained part by itself. None: not.
        loss_policy: what happens when a loss is no number, or leaps. None: `LossPolicy`.
        checkpoint_activations: keep only what goes into a block, and compute it again in the
            backward pass: less memory, about a third more time.
        compiles_blocks: run transformer blocks through torch.compile.

    Raises:
        ValueError: if a rate is out of range.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule | None = None,
        weight_decay_schedule: Schedule | None = None,
        learning_rate_scaling: LearningRateScaling | None = None,
        gradient_clipping: GradientClipping | None = None,
        loss_policy: LossPolicy | None = None,
        checkpoint_activations: bool = False,
        compiles_blocks: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.schedule = schedule or WarmupCosine()
        self.weight_decay_schedule = weight_decay_schedule
        self.learning_rate_scaling = learning_rate_scaling
        self.gradient_clipping = gradient_clipping
        self.checkpoint_activations = checkpoint_activations
        self.compiles_blocks = compiles_blocks
        self.loss_watch = LossWatch(loss_policy or LossPolicy())
        self._update_is_skipped = False
        self._decays: list[bool] = []
        self._optimizer_start: dict[str, Any] | None = None
        self._is_prepared = False
        self._has_to_stop = False

    def trained_modules(self) -> list[nn.Module]:
        """Returns what the optimizer changes."""
        raise NotImplementedError

    def frozen_modules(self) -> list[nn.Module]:
        """Returns further large parts, which no optimizer changes; sharded runs cut them too."""
        return []

    @property
    def architecture(self) -> dict[str, dict[str, Any]]:
        """Returns the settings of each part, which a checkpoint keeps to tell misfits from."""
        return {}

    @property
    def watches(self) -> dict[str, Any]:
        """Returns what remembers earlier steps, by the name it is saved under."""
        return {"loss_watch": self.loss_watch}

    def after_update(self) -> None:
        """Does what follows an update of the weights; not called where one was skipped."""

    def configure_model(self) -> None:
        """Prepares the blocks, and shards them if the strategy has a mesh to shard over."""
        if self._is_prepared:
            return
        self._is_prepared = True
        if self.checkpoint_activations:
            checkpoint_blocks(self.trained_modules())
        parts = [*self.trained_modules(), *self.frozen_modules()]
        if self.compiles_blocks:
            compile_blocks(parts)
        if self.device_mesh is not None:
            shard_over(self.device_mesh["data_parallel"], parts)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on what is trained."""
        rate = self.learning_rate * self.learning_rate_factor(self.trainer, self._data)
        optimizer = adamw(
            self.trained_modules(),
            learning_rate=rate,
            weight_decay=self.weight_decay,
            gradients_are_scaled=self._scales_losses,
        )
        self._decays = [group["weight_decay"] > 0 for group in optimizer.param_groups]
        self._set_rates(optimizer)  # refuses a schedule that does not fit before the first batch
        return optimizer

    def on_fit_start(self) -> None:
        """Hands the optimizer the state that `start_from` brought, if it did."""
        if self._optimizer_start is None:
            return
        (optimizer,) = self.trainer.optimizers
        optimizer.load_state_dict(self._optimizer_start)
        self._optimizer_start = None

    def on_train_start(self) -> None:
        """Warns of epochs that end with an update of fewer batches than the others."""
        self._has_to_stop = False
        batches, together = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if math.isinf(batches) or batches % together == 0:
            return
        gets_there = self.trainer.estimated_stepping_batches > batches // together
        if gets_there and self.trainer.is_global_zero:
            logger.warning(
                "the gradient of the last update of an epoch is the sum of %d batches divided by "
                "%d: make the batches of an epoch (steps_per_epoch), %d, a multiple of "
                "accumulate_grad_batches=%d",
                *(batches % together, together, batches, together),
            )

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Makes what dropout draws a pure function of (seed, step, rank), as masks are.

        Lightning saves no state of torch's generator: without this, a resumed run drops others.
        """
        count_this_epoch(self.trainer)
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # as seed_everything was told
        torch.manual_seed(step_seed(seed, progress.total.processed, self.global_rank))

    def on_train_batch_end(self, *_: object) -> None:
        """Lets a run that has to stop (max_time) go on until the accumulated gradient is used.

        (The module's hooks run after those of all callbacks.)
        """
        self._has_to_stop |= self.trainer.should_stop
        self.trainer.should_stop = (
            self._has_to_stop and not self.trainer.fit_loop._should_accumulate()
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,  # noqa: ANN401
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Updates at this step's rates, and does what follows: a checkpoint holds both or neither.

        (A checkpoint callback runs before the module's own hooks at the end of a batch.)
        """
        self._set_rates(self.trainer.optimizers[0])
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if not self._update_is_skipped:
            self.after_update()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Judges the gradient, then clips it, or drops it."""
        modules = {self._name_of(module): module for module in self.trained_modules()}
        norms = {name: gradient_norm(module.parameters()) for name, module in modules.items()}
        total = torch.stack(list(norms.values())).norm()
        overflows = self._scales_losses and not total.isfinite().item()
        judged = torch.zeros_like(total) if overflows else total  # the loss scaler's own affair
        allowed = self.loss_watch.allows_update(
            judged, step=self.global_step, last_checkpoint=newest_checkpoint(self.trainer)
        )
        self._update_is_skipped = overflows or not allowed
        for name, module in modules.items():
            if self._update_is_skipped:
                drop_gradients(module.parameters())
            elif self.gradient_clipping:
                self.gradient_clipping.clip(module, norms[name], step=self.global_step)
        self._log_optimization(norms, total)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what weights and optimizer do not tell; the arguments are told by the config."""
        checkpoint.pop(self.CHECKPOINT_HYPER_PARAMS_KEY, None)
        for name, watch in self.watches.items():
            checkpoint[name] = watch.state_dict()
        checkpoint["architecture"] = self.architecture
        note_entries(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from a checkpoint of the same architecture."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        if is_sharded(self):  # the strategy has taken weights and moments out, and refuses misfits
            refuse_another_architecture(
                checkpoint.get("architecture"), self.architecture, source="the checkpoint"
            )
        else:
            self.refuse_to_resume(checkpoint)
        for name, watch in self.watches.items():
            watch.load_state_dict(checkpoint[name])

    def refuse_to_resume(self, checkpoint: dict[str, Any]) -> None:
        """Raises if a checkpoint is of another architecture, or has not all that it had."""
        theirs = checkpoint.get("architecture")
        refuse_another_architecture(theirs, self.architecture, source="the checkpoint")
        refuse_other_entries(checkpoint)

    def start_from(self, path: Path, *, with_optimizer: bool = False) -> None:
        """Takes the weights of an earlier run; the run itself starts anew.

        Args:
            path: a checkpoint of this recipe; the clips may have had another size.
            with_optimizer: take the optimizer's moments too.

        Raises:
            ValueError: naming the first setting or weight that differs.
        """
        content, source = read_checkpoint(path), str(path)
        refuse_another_architecture(
            content.get("architecture"), self.architecture, source=source, may_differ=True
        )
        refuse_other_weights(content["state_dict"], self.state_dict(), source=source)
        self.load_state_dict(content["state_dict"])
        if with_optimizer:
            (self._optimizer_start,) = content["optimizer_states"]

    def learning_rate_factor(self, trainer: L.Trainer, data: object) -> float:
        """Returns what the learning rate is multiplied with, for the global batch of a run."""
        scaling = self.learning_rate_scaling
        return 1.0 if scaling is None else scaling.factor(global_batch_size(trainer, data))

    def describe_optimization(self, trainer: L.Trainer, data: object) -> str:
        """Returns one line for the start of a run."""
        rate = self.learning_rate * self.learning_rate_factor(trainer, data)
        line = f"at most {rate:.3g}, {type(self.schedule).__name__}"
        if trainer.max_steps > 0:
            total = trainer.max_steps
            first, last = (
                rate * self.schedule.fraction_at(step, total_steps=total) for step in (0, total - 1)
            )
            line += f" from {first:.3g} to {last:.3g}"
        if scaling := self.learning_rate_scaling:
            line += (
                f"; {rate / self.learning_rate:.3g} x {self.learning_rate:.3g} ({scaling.rule}: "
                f"global batch {global_batch_size(trainer, data)}, reference "
                f"{scaling.reference_batch_size})"
            )
        return line

    def _set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        total, step = self.trainer.estimated_stepping_batches, self.global_step
        rate = self.learning_rate * self.learning_rate_factor(self.trainer, self._data)
        rate *= self.schedule.fraction_at(step, total_steps=total)
        decay = self.weight_decay
        if self.weight_decay_schedule:
            decay *= self.weight_decay_schedule.fraction_at(step, total_steps=total)
        for group, decays in zip(optimizer.param_groups, self._decays, strict=True):
            group["lr"] = rate
            group["weight_decay"] = decay if decays else 0.0

    def _log_optimization(self, norms: dict[str, Tensor], total: Tensor) -> None:
        group = self.trainer.optimizers[0].param_groups[0]
        self.log_dict(
            {
                "optim/learning_rate": group["lr"],
                "optim/weight_decay": group["weight_decay"],
                "optim/gradient_norm": total,
                "train/skipped_updates": float(self.loss_watch.num_skipped),
                "train/loss_spikes": float(self.loss_watch.num_spikes),
                **{f"optim/gradient_norm_{name}": norm for name, norm in norms.items()},
            }
        )

    @property
    def _scales_losses(self) -> bool:
        """Whether a loss scaler takes part; it unscales gradients before they are judged."""
        return self.trainer.precision == "16-mixed"

    @property
    def _data(self) -> object:
        return getattr(self.trainer, "datamodule", None)

    def _name_of(self, part: nn.Module) -> str:
        return next(name for name, module in self.named_modules() if module is part)


def count_this_epoch(trainer: L.Trainer) -> None:
    """Counts the epoch under way as begun, where Lightning has not.

    It does not for the epoch that follows a resume from an epoch's last step. Resumed in there
    again, the run would begin the epoch anew, or take one epoch too many.
    """
    progress: Any = trainer.fit_loop.epoch_progress
    if progress.current.ready == progress.current.processed:
        progress.increment_ready()
        progress.increment_started()


def newest_checkpoint(trainer: L.Trainer) -> str:
    """Returns in words where a run would go on from, and the step of it."""
    for callback in trainer.checkpoint_callbacks:
        path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
        if path and Path(path).exists():
            step = getattr(callback, "_last_global_step_saved", 0)
            return f"the last good checkpoint is {path}" + (f" of step {step}" if step else "")
    resumed = trainer.ckpt_path
    return f"the last good checkpoint is {resumed}" if resumed else "there is no checkpoint yet"


def global_batch_size(trainer: L.Trainer, data: object) -> int:
    """Returns how many samples make up one update: batch x ranks x accumulated batches.

    Args:
        trainer: knows ranks and accumulation.
        data: its `batch_size` is that of one rank.

    Raises:
        ValueError: if the data do not say how large a batch is.
    """
    batch_size = getattr(data, "batch_size", None)
    if batch_size is None:
        raise ValueError(
            "learning_rate_scaling needs data that have a batch_size; leave it out and give the "
            "learning_rate itself"
        )
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches
