"""Fits that are run on one rank by a test, and on two ranks by torchrun with this file.

    torchrun --nproc_per_node 2 rank_fits.py FOLDER SHARDS

Every fit writes what it found to FOLDER/<name>-<rank>.pt.
"""

from __future__ import annotations

import data_pipelines  # noqa: F401  (its hook must be there before lightning)

# isort: split
import contextlib
import logging
import os
import signal
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import StrategyRegistry
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset

from data_pipelines.action_windows import ActionWindows
from data_pipelines.batch import ClipBatch, TrajectoryBatch
from data_pipelines.datamodules import ClipDataModule
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION
from data_pipelines.trajectories import ColumnStatistics
from jepa.checkpoint_saving import AtomicCheckpointIO
from jepa.checkpoints.native import save_encoder
from jepa.masking import Mask, mask_generator
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.dynamics import GRU
from jepa.models.latents import PooledTokens
from jepa.objectives import (
    DenseL1,
    InverseDynamics,
    LatentSmoothL1,
    SIGReg,
    TemporalSimilarity,
    VICReg,
)
from jepa.termination import SaveWhenTerminated
from jepa.training.collapse import CollapsePolicy
from jepa.training.dense_pretraining import DensePretraining
from jepa.training.distillation import Distillation
from jepa.training.gradients import GradientClipping
from jepa.training.joint_training import JointTraining
from jepa.training.loss_policy import LossPolicy
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining
from jepa.training.schedules import Cosine, WarmupCosine
from jepa.training.sharding import Fsdp2Strategy
from jepa.training.world_model_training import WorldModelTraining

NUM_STEPS, JOINED_BATCH = 3, 8
OPTIONS = {
    "learning_rate": 1e-3,
    "schedule": WarmupCosine(warmup_steps=1),
    "weight_decay": 0.4,
    "weight_decay_schedule": Cosine(0.1),
    "gradient_clipping": GradientClipping(max_norm=0.1),
    "ema_momentum": (0.9, 0.99),
}


def encoder_and_predictor(*, encoder_options=None, **predictor_options):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8}
    encoder = VideoEncoder(**sizes, dim=48, depth=2, num_heads=4, **(encoder_options or {}))
    settings = {"encoder_dim": 48, "dim": 24, "depth": 1, "num_heads": 2, **predictor_options}
    return encoder, MaskedLatentPredictor(**settings)


def latent_l1(**options):
    return Pretraining(*encoder_and_predictor(), **(OPTIONS | options))


def smooth_l1(**options):
    return latent_l1(objective=LatentSmoothL1(), **options)


def dense_l1(**options):
    encoder, predictor = encoder_and_predictor(
        encoder_options={"levels": (0, 1)}, num_levels=2, predicts_context=True
    )
    objective = DenseL1(num_levels=2, warmup_start_step=0, warmup_end_step=2)
    return DensePretraining(encoder, predictor, objective=objective, **(OPTIONS | options))


def regularized(regularizer, **options):
    parts = encoder_and_predictor(output_dim=8)
    settings = {"embedding_dim": 8, "regularizers": [regularizer], **OPTIONS}
    return RegularizedPretraining(*parts, **(settings | options))


def sigreg(**options):
    return regularized(SIGReg(num_projections=64), **options)


def vicreg(**options):
    return regularized(VICReg(), **options)


def distillation(**options):
    torch.manual_seed(1)
    teacher = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, dim=72, depth=2, num_heads=6
    )
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(teacher, Path(folder) / "encoder")
        parts = encoder_and_predictor(output_dim=72)
        return Distillation(*parts, teacher=folder, **(OPTIONS | options))


# A recipe of this table is checked to be right on two ranks, sharded or not.
RECIPES = {
    "latent_l1": latent_l1,
    "smooth_l1": smooth_l1,
    "dense_l1": dense_l1,
    "sigreg": sigreg,
    "vicreg": vicreg,
    "distillation": distillation,
}


def joint(**options):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=1, patch_size=8, tubelet_size=1, dim=48, depth=1,
        num_heads=4,
    )  # fmt: skip
    settings = {"latents": PooledTokens(dim=16), "dim": 24, "depth": 1, "num_heads": 2}
    settings |= {"learning_rate": 1e-3, "rollout_steps": 3}
    return JointTraining(encoder, **(settings | options))


def joint_vicreg(**options):
    parts = {
        "regularizers": [VICReg(), TemporalSimilarity()],
        "action_head": InverseDynamics(hidden_dim=32),
    }
    return joint(**(parts | options))


def joint_sigreg(**options):
    return joint(**({"regularizers": [SIGReg(num_projections=64)]} | options))


class FrozenWorld(WorldModelTraining):
    """Dynamics on an encoder that comes from a seed and not from a folder."""

    def make_encoder(self):
        return encoder_and_predictor()[0]


def frozen_world(**options):
    torch.manual_seed(0)
    settings = {"dynamics": GRU(dim=24), "learning_rate": 1e-3, "rollout_steps": 2}
    return FrozenWorld("", context_frames=2, **(settings | options))


# The same for recipes of trajectories, which are not sharded.
TRAJECTORY_RECIPES = {
    "joint_vicreg": joint_vicreg,
    "joint_sigreg": joint_sigreg,
    "frozen_world": frozen_world,
}


class MasksByClip:
    """Draws the masks of each clip from its pixels: its peers make no difference."""

    def sample_masks(self, video, *, step):
        clips = []
        for clip in video:
            generator = mask_generator(zlib.crc32(clip.numpy().tobytes()), step, 0, device="cpu")
            is_image = video.shape[2] == 1
            clips.append(
                self.draw_masks(1, self._grid(video), is_image=is_image, generator=generator)
            )
        return [
            Mask(*map(torch.cat, zip(*masks, strict=True))) for masks in zip(*clips, strict=True)
        ]


class SeededParts:
    """Makes the parts that wait for the data from one seed, whatever was drawn before."""

    def configure_model(self):
        torch.manual_seed(1)
        super().configure_model()


class JoinedBatches(L.LightningDataModule):
    """Batch k of all ranks together is the same on any number of ranks."""

    batch_size = JOINED_BATCH

    def train_dataloader(self):
        return DataLoader(_Parts(self.trainer), batch_size=None)


class _Parts(Dataset):
    def __init__(self, trainer):
        self.trainer = trainer

    def __len__(self):
        return 1000

    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(step)
        video = torch.randint(
            0, 256, (JOINED_BATCH, 3, 4, 32, 32), generator=generator, dtype=torch.uint8
        )
        part = slice(self.trainer.global_rank, None, self.trainer.world_size)
        keys = tuple(f"clip-{step}-{index}" for index in range(JOINED_BATCH))
        return ClipBatch(video[part], torch.zeros(len(video[part]), 4), keys[part])


class JoinedTrajectories(L.LightningDataModule):
    """The same of windows of trajectories."""

    batch_size = JOINED_BATCH
    specification = MOVING_SHAPE_SPECIFICATION
    statistics = ColumnStatistics((0.5, 0.5), (0.3, 0.3), (0.0, 0.0), (0.4, 0.4))
    action_windows = ActionWindows(MOVING_SHAPE_SPECIFICATION, 4)

    def train_dataloader(self):
        return DataLoader(_TrajectoryParts(self.trainer), batch_size=None)


class _TrajectoryParts(_Parts):
    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(step)
        part = slice(self.trainer.global_rank, None, self.trainer.world_size)
        frames = torch.randint(
            0, 256, (JOINED_BATCH, 3, 4, 32, 32), generator=generator, dtype=torch.uint8
        )
        states = torch.rand((JOINED_BATCH, 4, 2), generator=generator)
        keys = tuple(f"window-{step}-{index}" for index in range(JOINED_BATCH))
        return TrajectoryBatch(frames[part], states[part], states.diff(dim=1)[part], keys[part])


class Found(L.Callback):
    """Keeps the loss of every step, the first gradient, and the weights at the end."""

    def __init__(self):
        self.losses, self.gradients, self.weights = [], {}, {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 0:
            parameters = pl_module.named_parameters()
            self.gradients = {n: whole(p.grad) for n, p in parameters if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer, pl_module):
        self.weights = {name: whole(value) for name, value in pl_module.state_dict().items()}

    def result(self):
        return {"losses": self.losses, "gradients": self.gradients, "weights": self.weights}


def whole(tensor):
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def make_trainer(folder, *, strategy="auto", max_steps=NUM_STEPS, callbacks=(), **options):
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return L.Trainer(
            max_steps=max_steps,
            accelerator="cpu",
            devices=ranks,
            strategy=strategy,
            logger=False,
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            callbacks=list(callbacks),
            plugins=[AtomicCheckpointIO()],
            **options,
        )


def fit_joined(recipe, folder, **options):
    """Three steps of batches that do not depend on the number of ranks; see `Found`."""
    model, found = RECIPES[recipe](), Found()
    model.__class__ = type("ByClip", (MasksByClip, type(model)), {})
    trainer = make_trainer(folder, callbacks=[found], **options)
    trainer.fit(model, JoinedBatches())
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return found.result() | {"logged": logged}


def fit_joined_trajectories(recipe, folder, **options):
    """The same of trajectories; see `Found`."""
    model, found = TRAJECTORY_RECIPES[recipe](), Found()
    model.__class__ = type("Seeded", (SeededParts, type(model)), {})
    trainer = make_trainer(folder, callbacks=[found], **options)
    trainer.fit(model, JoinedTrajectories())
    return found.result()


def fit_shards(folder, shards, *, strategy, max_steps=6, ckpt_path=None):
    """Real batches, with checkpoints every third step; returns the whole state at the end."""

    class Remembering(Pretraining):
        def sample_masks(self, video, *, step):
            masks = super().sample_masks(video, step=step)
            self.drawn = [*getattr(self, "drawn", []), masks[0].target_ids]
            return masks

        def training_step(self, batch, batch_idx):
            self.keys = [*getattr(self, "keys", []), batch.keys]
            return super().training_step(batch, batch_idx)

    saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
    model, found = Remembering(*encoder_and_predictor(), **OPTIONS), Found()
    trainer = make_trainer(
        folder, strategy=strategy, max_steps=max_steps, callbacks=[saving, found]
    )
    data = ClipDataModule(shards, 4, image_size=32, batch_size=4, steps_per_epoch=4, seed=3)
    trainer.fit(model, data, ckpt_path=ckpt_path)
    state = trainer.strategy.optimizer_state(trainer.optimizers[0])
    watch = model.loss_watch.state_dict()
    kept = {"drawn": model.drawn, "keys": model.keys, "optimizer": state, "watch": watch}
    return found.result() | kept


class SpoilingPretraining(Pretraining):
    """Has a loss that is no number on rank 1 at the steps it is told."""

    spoilt: tuple[int, ...] = ()

    def compare(self, predicted, target, masks, *, grid):
        terms = super().compare(predicted, target, masks, grid=grid)
        if self.global_rank == 1 and self.global_step in self.spoilt:
            return terms._replace(total=terms.total * float("nan"))
        return terms


class WeightsByStep(L.Callback):
    """Keeps online and target weights after every step."""

    def __init__(self):
        self.online, self.target = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for kept, module in (
            (self.online, pl_module.encoder),
            (self.target, pl_module.target_encoder),
        ):
            flat = [whole(p.detach()).flatten() for p in module.parameters()]
            kept.append(torch.cat(flat))


def fit_spoilt(folder, *, on_non_finite, strategy):
    """Four steps of which one rank spoils the second; returns the weights, or the message."""
    by_step = WeightsByStep()
    policy = LossPolicy(on_non_finite=on_non_finite)
    model = SpoilingPretraining(*encoder_and_predictor(), **OPTIONS, loss_policy=policy)
    model.spoilt = (1,)
    trainer = make_trainer(folder, strategy=strategy, max_steps=4, callbacks=[by_step])
    message = ""
    try:
        trainer.fit(model, JoinedBatches())
    except ValueError as error:
        message = str(error)
    watch = model.loss_watch.state_dict()
    return {"online": by_step.online, "target": by_step.target, "message": message, "watch": watch}


def fit_collapsed(folder, *, strategy):
    """A floor of the rank that only rank 1 is said to be under: no rank may stop alone."""
    model = latent_l1(
        monitor_every_n_steps=1,
        collapse_policy=CollapsePolicy(
            on_collapse="stop", min_rank_fraction=float(os.environ["RANK"])
        ),
    )
    trainer = make_trainer(folder, strategy=strategy, max_steps=2)
    with contextlib.suppress(ValueError):
        trainer.fit(model, JoinedBatches())
    return {"steps": trainer.global_step}


class TerminatesRankOne(L.Callback):
    """Sends SIGTERM to one rank only."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def fit_terminated(folder, *, strategy):
    """A SIGTERM in the third of many steps; returns how it ended."""
    saving = ModelCheckpoint(folder, save_last=True, save_top_k=0)
    callbacks = [SaveWhenTerminated(), TerminatesRankOne(), saving]
    trainer = make_trainer(folder, strategy=strategy, max_steps=500, callbacks=callbacks)
    ended_by = ""
    try:
        trainer.fit(latent_l1(), JoinedBatches())
    except BaseException as error:
        ended_by = type(error).__name__
    return {"ended_by": ended_by, "steps": trainer.global_step}


def fit_for_a_time(folder, shards, *, strategy):
    """A run that max_time ends; returns its step."""
    saving = ModelCheckpoint(folder, save_last=True, save_top_k=0)
    trainer = make_trainer(
        folder, strategy=strategy, max_steps=10_000, callbacks=[saving], max_time="00:00:00:01"
    )
    data = ClipDataModule(shards, 4, image_size=32, batch_size=4, steps_per_epoch=5000, seed=3)
    trainer.fit(latent_l1(), data)
    return {"steps": trainer.global_step}


class RankOneHasPaddingOnly(_Parts):
    """One batch, of which rank 1 has no valid clip."""

    def __len__(self):
        return 1

    def __getitem__(self, step):
        batch = super().__getitem__(step)
        return batch._replace(is_valid=torch.full((len(batch.video),), self.trainer.is_global_zero))


def validate_padding(folder, *, strategy):
    """A validation in which one rank has nothing to say; returns the loss that all log."""
    trainer = make_trainer(folder, strategy=strategy)
    loader = DataLoader(RankOneHasPaddingOnly(trainer), batch_size=None)
    (logged,) = trainer.validate(latent_l1(), loader, verbose=False)
    return logged


def main(folder, shards):
    logging.getLogger("lightning.pytorch").disabled = True
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    StrategyRegistry.register("fsdp2", Fsdp2Strategy)
    rank = os.environ["RANK"]

    def note(name, result):
        torch.save(result, folder / f"{name}-{rank}.pt")

    for strategy in ("ddp", "fsdp2"):
        for recipe in RECIPES:
            note(f"{recipe}-{strategy}", fit_joined(recipe, folder / recipe, strategy=strategy))
        half = fit_joined("latent_l1", folder / "half", strategy=strategy, precision="bf16-mixed")
        note(f"half-{strategy}", half)
        whole_run = folder / f"whole-{strategy}"
        note(f"whole-{strategy}", fit_shards(whole_run, shards, strategy=strategy))
        note(f"padding-{strategy}", validate_padding(folder / "padding", strategy=strategy))
        resumed = fit_shards(
            folder / "resumed", shards, strategy=strategy, ckpt_path=whole_run / "step=3.ckpt"
        )
        note(f"resumed-{strategy}", resumed)
        for policy in ("skip", "stop"):
            result = fit_spoilt(folder / "spoilt", on_non_finite=policy, strategy=strategy)
            note(f"{policy}-{strategy}", result)
    for recipe in TRAJECTORY_RECIPES:
        found = fit_joined_trajectories(recipe, folder / recipe, strategy="ddp")
        note(f"{recipe}-ddp", found)
    note("collapsed", fit_collapsed(folder / "collapsed", strategy="ddp"))
    note("timed", fit_for_a_time(folder / "timed", shards, strategy="ddp"))
    note("terminated", fit_terminated(folder / "terminated", strategy="ddp"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
