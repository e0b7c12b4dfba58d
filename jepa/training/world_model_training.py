"""Trains action-conditioned dynamics on a frozen encoder (V-JEPA 2, arXiv:2506.09985, Sec. 3.1).

Two losses: teacher forcing (every next frame from the true ones) and a rollout of several steps in
which the model lives on its own predictions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from data_pipelines.batch import TrajectoryBatch
from jepa.checkpoints.frame_encoders import load_frame_encoder, resolve_frame_encoder
from jepa.checkpoints.native import save_world_model
from jepa.models.latents import FrameMoments, LatentSpace, PatchTokens, SlowFeatures
from jepa.models.world_model import ActionColumns, ColumnScaling, LatentWorldModel
from jepa.objectives import Objective, RolloutL1
from jepa.training.finite import refuse_non_finite
from jepa.training.latent_windows import LatentBatch
from jepa.training.optimizers import adamw, warmup_cosine
from jepa.training.throughput import ThroughputMonitor

Windows = TrajectoryBatch | LatentBatch


class WorldModelTraining(L.LightningModule):
    """Trains dynamics in the latent space of a frozen encoder.

    At the end writes `world_model/` into the run folder.

    Args:
        encoder: folder of a pretrained encoder, or of the run that made it; or a model of timm,
            timm:NAME@SIZE: see `jepa.checkpoints.frame_encoders`.
        latents: what the encoder's patch tokens become. None: `PatchTokens`.
        objective: compares imagined with real latents. None: `RolloutL1`.
        uses_state: give the dynamics the proprioceptive state; False leaves pixels alone.
        dim: width of the dynamics.
        depth: blocks of the dynamics.
        num_heads: attention heads of the dynamics.
        rollout_steps: length of the imagined rollouts; windows are cut into as many as fit.
        state_weight: weight of the error of predicted states in the loss; at 1 it crowds out the
            latents, whose scale is smaller (docs/log.md).
        fit_batches: batches of the training data that `SlowFeatures` are fitted to.
        learning_rate: peak of the schedule.
        weight_decay: constant.
        warmup_fraction: share of the steps with rising learning rate.
    """

    def __init__(
        self,
        encoder: str,
        *,
        latents: LatentSpace | None = None,
        objective: Objective | None = None,
        uses_state: bool = True,
        dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        rollout_steps: int = 2,
        state_weight: float = 0.1,
        fit_batches: int = 32,
        learning_rate: float = 4.25e-4,
        weight_decay: float = 0.04,
        warmup_fraction: float = 0.05,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["latents", "objective"])
        if rollout_steps < 1 or fit_batches < 1:
            raise ValueError(
                f"rollout_steps and fit_batches must be at least 1, got {rollout_steps} and "
                f"{fit_batches}"
            )
        self.encoder_folder = encoder
        self.latents = latents or PatchTokens()
        self.objective = objective or RolloutL1()
        self.uses_state, self.state_weight = uses_state, state_weight
        self.dim, self.depth, self.num_heads = dim, depth, num_heads
        self.rollout_steps, self.fit_batches = rollout_steps, fit_batches
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_fraction = warmup_fraction
        self.world: LatentWorldModel | None = None

    def configure_model(self) -> None:
        """Builds the world model once the data's action and state spaces are known."""
        if self.world is not None:
            return
        statistics = self._datamodule.statistics
        self._refuse_another_encoder()
        self.world = LatentWorldModel(
            load_frame_encoder(self.encoder_folder),
            self.latents,
            scaling=ColumnScaling(*(getattr(statistics, name) for name in ColumnScaling._fields)),
            uses_state=self.uses_state,
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
            actions=self._action_columns(),
        )

    def on_fit_start(self) -> None:
        """Fits the latent space to the encoder's features, unless a checkpoint brought it along."""
        if isinstance(self.latents, SlowFeatures) and not self.latents.is_fitted:
            self.fit_slow_features(self.latents)

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Encode, predict with teacher forcing, imagine a rollout, compare."""
        world = self._world
        latents = world.latents(self.patches(batch))  # (batch, time, tokens, dim)
        forced, forced_state = self.teacher_forcing(latents, batch)
        imagined, imagined_state = self.rollout(latents, batch)
        loss = forced + imagined + self.state_weight * (forced_state + imagined_state)
        refuse_non_finite(loss, step=self.global_step, keys=batch.keys)
        self.log("loss/total", loss, prog_bar=True)
        self.log("loss/teacher_forcing", forced, prog_bar=True)
        self.log("loss/rollout", imagined, prog_bar=True)
        self.log("loss/state", forced_state + imagined_state)
        self.log("baseline/copy", self.objective(latents[:, :-1], latents[:, 1:]).total)
        self.log("optim/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        """Logs the errors on other trajectories, beside that of predicting no change."""
        if isinstance(batch, TrajectoryBatch):
            batch = batch.only_valid()
        names = ("validation/teacher_forcing", "validation/rollout", "validation/copy")
        errors = [torch.zeros((), device=self.device)] * 3  # padding only: it weighs nothing
        if batch.keys:
            latents = self._world.latents(self.patches(batch))
            errors = [
                self.teacher_forcing(latents, batch)[0],
                self.rollout(latents, batch)[0],
                self.objective(latents[:, :-1], latents[:, 1:]).total,
            ]
        values: dict[str, Any] = dict(zip(names, errors, strict=True))
        self.log_dict(values, sync_dist=True, batch_size=len(batch.keys))

    def test_step(self, batch: Windows, batch_idx: int) -> None:
        """The same as validation."""
        self.validation_step(batch, batch_idx)

    def patches(self, batch: Windows) -> Tensor:
        """The encoder's patch tokens (batch, time, patches, encoder_dim), encoded now or before."""
        if isinstance(batch, LatentBatch):
            return batch.tokens
        return self._world.encode_patches(batch.frames)

    def teacher_forcing(self, latents: Tensor, batch: Windows) -> tuple[Tensor, Tensor]:
        """Loss of every next latent and next state, predicted from the true ones before."""
        world = self._world
        predicted = world(latents[:, :-1], batch.states[:, :-1], batch.actions)
        states = world.normalize_states(batch.states)
        loss = self.objective(predicted.tokens, latents[:, 1:]).total
        return loss, _mean_absolute(predicted.state - states[:, 1:])

    def rollout(self, latents: Tensor, batch: Windows) -> tuple[Tensor, Tensor]:
        """Loss of imagined latents and states, after 1 ... rollout_steps actions.

        A window of many frames is cut into rollouts that start one after the other.
        """
        world, steps = self._world, self.rollout_steps
        segments = self._segments(latents.shape[1])
        states = world.normalize_states(batch.states)
        starts = range(0, segments * steps, steps)
        first = torch.cat([latents[:, s] for s in starts])  # (segments * batch, tokens, dim)
        first_state = torch.cat([states[:, s] for s in starts])
        actions = torch.cat([batch.actions[:, s : s + steps] for s in starts])
        imagined = world.rollout(first, first_state, actions)
        real = torch.cat([latents[:, s + 1 : s + 1 + steps] for s in starts])
        real_state = torch.cat([states[:, s + 1 : s + 1 + steps] for s in starts])
        loss = self.objective(imagined.tokens, real).total
        return loss, _mean_absolute(imagined.state - real_state)

    @torch.no_grad()
    def fit_slow_features(self, latents: SlowFeatures) -> None:
        """Fits slow features to the first batches of the training data, on all ranks alike."""
        moments: FrameMoments | None = None
        loader = self._datamodule.train_dataloader()
        for _, batch in zip(range(self.fit_batches), loader, strict=False):
            batch = self.trainer.strategy.batch_to_device(batch)
            features = latents.flatten(self.patches(batch))
            moments = moments or FrameMoments(features.shape[-1])
            moments.add(features)
        if moments is None:
            raise ValueError("there is no training data to fit the slow features to")
        latents.fit(moments)
        for name in ("mean", "projection", "speed"):  # rank 0 decides
            value = getattr(latents, name)
            value.copy_(self.trainer.strategy.broadcast(value.cpu()))

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union
        """AdamW on the dynamics, warm-up and cosine."""
        optimizer = adamw(
            [self._world.dynamics],
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )
        schedule = warmup_cosine(
            optimizer,
            total_steps=self.trainer.estimated_stepping_batches,
            warmup_fraction=self.warmup_fraction,
            final_fraction=0.01,
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_callbacks(self) -> list[L.Callback]:
        """Speed is always measured."""
        return [ThroughputMonitor()]

    def on_train_epoch_start(self) -> None:
        """Keeps the frozen parts in evaluation mode."""
        self._world.encoder.eval()

    def on_train_end(self) -> None:
        """Writes the world model."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # pyright: ignore
            save_world_model(self._world, Path(self.trainer.default_root_dir) / "world_model")

    @property
    def _world(self) -> LatentWorldModel:
        assert self.world is not None
        return self.world

    @property
    def _datamodule(self) -> Any:  # noqa: ANN401 - a TrajectoryDataModule, which we may not import
        datamodule = getattr(self.trainer, "datamodule", None)
        if not hasattr(datamodule, "statistics"):
            raise ValueError(
                "world-model training needs data with actions and states: use "
                "data_pipelines.datamodules.TrajectoryDataModule"
            )
        return datamodule

    def _action_columns(self) -> ActionColumns:
        """Returns what an action of the data's windows means."""
        specification = self._datamodule.specification
        windows = self._datamodule.action_windows
        return ActionColumns(
            names=specification.action_names,
            units=specification.action_units,
            low=specification.action_low,
            high=specification.action_high,
            frames_per_second=specification.frames_per_second,
            mode=windows.mode,
            reduction=windows.reduction,
            num_steps=windows.steps_per_action,
        )

    def _refuse_another_encoder(self) -> None:
        """Raises if the data were encoded by an encoder that is not the model's."""
        theirs, ours = getattr(self._datamodule, "encoder_folder", None), self.encoder_folder
        if theirs is not None and resolve_frame_encoder(theirs) != resolve_frame_encoder(ours):
            raise ValueError(
                f"the data are encoded by {theirs}, the world model is to see through "
                f"{ours}: give both the same encoder"
            )

    def _segments(self, num_frames: int) -> int:
        segments = (num_frames - 1) // self.rollout_steps
        if segments < 1:
            raise ValueError(
                f"rollout_steps={self.rollout_steps} needs windows of at least "
                f"{self.rollout_steps + 1} frames, got {num_frames}; lower it, or raise the data's "
                "clip_length_frames (window_frames of LatentWindows)"
            )
        return segments


def _mean_absolute(difference: Tensor) -> Tensor:
    """The mean absolute value; zero where there is no state to compare."""
    return difference.abs().mean() if difference.numel() else difference.new_zeros(())
