"""Masked-latent pretraining (V-JEPA, arXiv:2404.08471, Sec. 3; V-JEPA 2, arXiv:2506.09985, Sec. 2).

Hide parts of a clip, encode what is visible, predict the latents of what is hidden, and compare
them with those of a target encoder that follows the online one slowly and sees everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from data_pipelines.batch import ClipBatch
from jepa.checkpoints.native import save_model
from jepa.masking import Mask, MaskSampler, MultiBlock, mask_generator
from jepa.models import (
    JepaModel,
    MaskedLatentPredictor,
    VideoEncoder,
    normalize_pixels,
    take_tokens,
)
from jepa.models.encoder import Grid
from jepa.objectives import DenseL1, LatentL1, LossTerms, Objective, mean_terms
from jepa.training.collapse import CollapseMonitor, CollapsePolicy
from jepa.training.online_target import OnlineTarget
from jepa.training.optimization import OptimizedModule
from jepa.training.sharding import is_sharded, whole_model
from jepa.training.starting_weights import read_model, warn_of_untrained
from jepa.training.target_encoder import TargetEncoder
from jepa.training.throughput import ThroughputMonitor


class Pretraining(OptimizedModule):
    """Trains a video encoder from clips alone.

    At the end writes the target encoder and the predictor as `encoder/` into the run folder.

    Args:
        encoder: the online encoder.
        predictor: its encoder_dim must be the encoder's dim.
        masks: one mask per sampler and clip; all share one pass of the target encoder. None: the
            short-range and long-range masks of the papers.
        image_masks: the same for batches of images, which are clips of one frame. None: blocks that
            hide three quarters, as V-JEPA 2.1 hides of images.
        objective: compares predicted and target latents. None: `LatentL1`.
        ema_momentum: (first, last) momentum of the target encoder.
        monitor_every_n_steps: how often collapse is measured.
        collapse_policy: what counts as collapse, and what happens then. None: `CollapsePolicy`.
        seed: of the masks.
        learning_rate: peak of the schedule.
        weight_decay: of matrices.
        optimization: see `jepa.training.optimization.OptimizedModule`.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        *,
        masks: list[MaskSampler] | None = None,
        image_masks: list[MaskSampler] | None = None,
        objective: Objective | None = None,
        ema_momentum: tuple[float, float] = (0.998, 1.0),
        monitor_every_n_steps: int = 50,
        collapse_policy: CollapsePolicy | None = None,
        seed: int = 0,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.04,
        **optimization: Any,  # noqa: ANN401 - those of OptimizedModule, which refuses all others
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **optimization)
        parts = ("encoder", "predictor", "masks", "image_masks", "objective")
        self.save_hyperparameters(ignore=parts)
        self.refuse_misfit(encoder, predictor, objective)
        self.encoder, self.predictor = encoder, predictor
        self.target_encoder = self.make_target_encoder(encoder, momentum=ema_momentum)
        self.objective = objective or LatentL1()
        self.masks = masks or [
            MultiBlock(num_blocks=8, target_fraction=0.75),
            MultiBlock(num_blocks=2, target_fraction=0.9),
        ]
        self.image_masks = image_masks or [MultiBlock(num_blocks=10, target_fraction=0.75)]
        self.seed = seed
        self.collapse = CollapseMonitor(collapse_policy, every_n_steps=monitor_every_n_steps)
        self._measured_at_step = -1

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mask, encode, predict, compare."""
        video = normalize_pixels(batch.video)  # (batch, 3, time, height, width)
        masks = self.sample_masks(video, step=self._batches_trained)
        target = self.target(video)  # (batch, tokens, dim)
        loss = self.compare(self.predict(video, masks), target, masks, grid=self._grid(video))
        self.loss_watch.note(loss.total, batch.keys)
        self.log("loss/total", loss.total, prog_bar=True)
        self.log_dict({f"loss/{name}": part for name, part in loss.parts.items()})
        self._log_health(video, target)
        return loss.total + self._nothing_of_idle_parameters(video)

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Logs the loss under masks that are the same at every validation."""
        valid = batch.only_valid().video
        helps_others = not len(valid) and is_sharded(self.encoder)  # they wait for its weights
        video = normalize_pixels(batch.video if helps_others else valid)
        total = torch.zeros((), device=video.device)  # a batch of padding only weighs nothing
        if len(video):
            masks = self.sample_masks(video, step=batch_idx)
            grid, target = self._grid(video), self.target(video)
            loss = self.compare(self.predict(video, masks), target, masks, grid=grid)
            total = total if helps_others else loss.total
        self.log("validation/loss", total, sync_dist=True, batch_size=len(valid))

    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """The same as validation."""
        self.validation_step(batch, batch_idx)

    def sample_masks(self, video: Tensor, *, step: int) -> list[Mask]:
        """Draws one mask per sampler and clip: a pure function of (seed, step, rank)."""
        generator = mask_generator(self.seed, step, self.global_rank, device=video.device)
        is_image = video.shape[2] == 1
        return self.draw_masks(
            len(video), self._grid(video), is_image=is_image, generator=generator
        )

    def draw_masks(
        self, batch: int, grid: Grid, *, is_image: bool, generator: torch.Generator
    ) -> list[Mask]:
        """Draws one mask per sampler and clip."""
        samplers = self.image_masks if is_image else self.masks
        return [sampler.sample(batch, grid, generator=generator) for sampler in samplers]

    def target(self, video: Tensor) -> Tensor:
        """Returns what is to be predicted, of all places: (batch, tokens, dim)."""
        return self.target_encoder(video)

    def predict(self, video: Tensor, masks: Sequence[Mask]) -> list[Tensor]:
        """Predicts what each mask hides from what it shows: latents (batch, targets, dim)."""
        return [
            self.predictor(
                self.encoder(video, token_ids=mask.context_ids),
                context_ids=mask.context_ids,
                target_ids=mask.target_ids,
                grid=self._grid(video),
                modality="image" if video.shape[2] == 1 else "video",
            )
            for mask in masks
        ]

    def compare(
        self, predicted: Sequence[Tensor], target: Tensor, masks: Sequence[Mask], *, grid: Grid
    ) -> LossTerms:
        """Compares what was predicted with the target (batch, tokens, dim): the mean over masks."""
        return mean_terms(
            [
                self.objective(latents, take_tokens(target, mask.target_ids))
                for latents, mask in zip(predicted, masks, strict=True)
            ]
        )

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Returns the released encoder's tokens (batch, tokens, dim) and the keys of the clips."""
        batch = batch.only_valid()
        video = normalize_pixels(batch.video)
        return {"keys": list(batch.keys), "tokens": self.released_encoder(video)}

    def after_update(self) -> None:
        """Lets the target follow."""
        progress = self.global_step / self.trainer.estimated_stepping_batches
        self.target_encoder.update(self.encoder, progress=progress)
        if isinstance(self.target_encoder, TargetEncoder):
            self.log("optim/ema_momentum", self.target_encoder.momentum_at(progress))

    def configure_callbacks(self) -> list[L.Callback]:
        """Speed is always measured."""
        return [ThroughputMonitor()]

    def on_train_end(self) -> None:
        """Writes the released encoder and the predictor."""
        if self.trainer.fast_dev_run:  # pyright: ignore
            return
        model = JepaModel(self.released_encoder, predictor=self.predictor)
        model = whole_model(model, keeps=self.trainer.is_global_zero)
        if self.trainer.is_global_zero:
            save_model(model, Path(self.trainer.default_root_dir) / "encoder")

    def make_target_encoder(
        self, encoder: VideoEncoder, *, momentum: tuple[float, float]
    ) -> TargetEncoder | OnlineTarget:
        """Returns what the target comes from: a slow copy of the encoder."""
        return TargetEncoder(encoder, momentum=momentum)

    def refuse_misfit(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        objective: Objective | None,
    ) -> None:
        """Raises if parts do not fit one another, or if some of them would learn nothing."""
        if predictor.input_dim != self.context_dim(encoder):
            raise ValueError(
                f"predictor.encoder_dim={predictor.input_dim} must be the encoder's "
                f"dim={self.context_dim(encoder)}"
            )
        dense = {
            "encoder.levels": len(encoder.level_indices) > 1,
            "predictor.predicts_context": predictor.context_proj is not None,
            "objective=DenseL1": isinstance(objective, DenseL1),
        }
        if idle := [name for name, is_given in dense.items() if is_given]:
            raise ValueError(
                f"{type(self).__name__} has no use for {' and '.join(idle)}: leave it out, or take "
                "jepa.training.dense_pretraining.DensePretraining"
            )

    def watched_tokens(self, video: Tensor, target: Tensor) -> Tensor:
        """Returns what may collapse and is watched, (batch, tokens, dim): the targets."""
        return target

    def context_dim(self, encoder: VideoEncoder) -> int:
        """Width of what the predictor gets of a visible token."""
        return encoder.dim

    def target_network(self) -> tuple[VideoEncoder, bool]:
        """Returns the encoder that makes the targets, and whether gradient flows into it."""
        return self.released_encoder, False

    def trained_modules(self) -> list[nn.Module]:
        """What the optimizer changes: encoder and predictor."""
        return [self.encoder, self.predictor]

    def frozen_modules(self) -> list[nn.Module]:
        """The encoder that follows, where there is one."""
        target = self.target_encoder
        return [target.encoder] if isinstance(target, TargetEncoder) else []

    @property
    def watches(self) -> dict[str, Any]:
        """What remembers earlier steps: the measures of collapse too."""
        return {**super().watches, "collapse_monitor": self.collapse}

    @property
    def architecture(self) -> dict[str, dict[str, Any]]:
        """The settings of encoder and predictor."""
        return {"encoder": self.encoder.config, "predictor": self.predictor.config}

    def start_from(self, path: Path, *, with_optimizer: bool = False) -> None:
        """Takes the weights of a checkpoint, or of a folder with encoder and predictor."""
        if not path.is_dir():
            super().start_from(path, with_optimizer=with_optimizer)
            return
        if with_optimizer:
            raise ValueError(f"{path} is a model without its optimizer: leave --from_optimizer out")
        model = read_model(path, self.architecture)
        self.encoder.load_state_dict(model.encoder.state_dict())
        self.released_encoder.load_state_dict(model.encoder.state_dict())
        trained: list[nn.Module] = [self.encoder]
        if model.predictor is not None:
            self.predictor.load_state_dict(model.predictor.state_dict())
            trained.append(self.predictor)
        warn_of_untrained([part for part in self.trained_modules() if part not in trained], path)

    @property
    def released_encoder(self) -> VideoEncoder:
        """The encoder that a run leaves: the target encoder, the better representation."""
        encoder: Any = self.target_encoder.encoder
        return encoder

    @property
    def _batches_trained(self) -> int:
        """Batches used so far, over all resumes; several a step where gradients accumulate."""
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return progress.total.processed

    def _nothing_of_idle_parameters(self, video: Tensor) -> Tensor:
        """Zero: DDP waits for a gradient of every parameter, also of the other tokenizer's."""
        if self.encoder.image_embed is None or is_sharded(self.encoder):
            return video.new_zeros(())
        is_image = video.shape[2] == 1
        idle = self.encoder.patch_embed if is_image else self.encoder.image_embed
        return torch.stack([0.0 * parameter.sum() for parameter in idle.parameters()]).sum()

    def _grid(self, video: Tensor) -> Grid:
        time, height, width = video.shape[2:]
        return self.encoder.grid_of((time, height, width))

    def _log_health(self, video: Tensor, target: Tensor) -> None:
        step = self.global_step
        if self.collapse.is_due(step) and step != self._measured_at_step:
            self._measured_at_step = step  # once a step, also where it has several batches
            tokens = self.watched_tokens(video, target)
            pair = (self.target_encoder.encoder, self.encoder)
            report = self.collapse.measure(tokens, *pair, is_trained=step > 0)
            rank = report.pop("collapse/effective_rank")
            self.log("collapse/effective_rank", rank, prog_bar=True)
            self.log_dict(report)
        skips = getattr(getattr(self.trainer, "datamodule", None), "skips", None)
        if skips is not None:
            self.log("data/skipped", float(skips.num_skipped))
