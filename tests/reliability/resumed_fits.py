"""Fits in this process that save after every update, and go on from any of these checkpoints."""

import lightning.pytorch as L
import torch

from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from jepa.models import VideoEncoder
from jepa.models.dynamics import AdaLN
from jepa.models.latents import PooledTokens
from jepa.termination import WholeUpdateCheckpoint
from jepa.training.joint_training import JointTraining
from tests.jepa.training.rank_fits import (
    RECIPES,
    TRAJECTORY_RECIPES,
    make_trainer,
)
from tests.reliability.fit_processes import flat, is_same

NUM_STEPS, STEPS_PER_EPOCH = 7, 3


def joint_with_dropout():
    """LeWM in small: dropout draws from torch's own generator."""
    torch.manual_seed(0)
    sizes = {"image_size": 32, "clip_length_frames": 1, "patch_size": 8, "tubelet_size": 1}
    encoder = VideoEncoder(**sizes, dim=48, depth=1, num_heads=4)
    dynamics = AdaLN(
        dim=24, depth=1, num_heads=2, head_dim=12, mlp_dim=48, context_frames=2, dropout=0.5
    )
    settings = {"context_frames": 2, "rollout_steps": 2, "learning_rate": 1e-3}
    return JointTraining(encoder, latents=PooledTokens(dim=16), dynamics=dynamics, **settings)


ALL_RECIPES = {**RECIPES, **TRAJECTORY_RECIPES, "joint_with_dropout": joint_with_dropout}


class Kept(L.Callback):
    """Keeps step -> (loss, samples)."""

    def __init__(self):
        self.steps = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps[self.step] = (outputs["loss"].item().hex(), batch.keys)


class SavesAtStart(L.Callback):
    """Saves before the first step of this process."""

    def __init__(self, path):
        self.path = path

    def on_train_start(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


def data_of(recipe, shards):
    """The data module of a recipe; `shards` are those of clips and of trajectories."""
    clips, trajectories = shards
    options = {"image_size": 32, "batch_size": 4, "steps_per_epoch": STEPS_PER_EPOCH, "seed": 3}
    if recipe in RECIPES:
        return ClipDataModule(clips, 4, **options)
    return TrajectoryDataModule(trajectories, 5, **options)


def fitted(recipe, shards, folder, *callbacks, ckpt_path=None, max_epochs=None):
    """Returns what came in every step; `step=k.ckpt` is in the folder after k updates."""
    kept = Kept()
    saving = WholeUpdateCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    length = {"max_epochs": max_epochs, "max_steps": -1 if max_epochs else NUM_STEPS}
    trainer = make_trainer(folder, **length, callbacks=[kept, *callbacks, saving])
    trainer.fit(ALL_RECIPES[recipe](), data_of(recipe, shards), ckpt_path=ckpt_path)
    return kept.steps


def differing(one, two):
    """Returns the entries that are not the same bits in two checkpoints."""
    first, second = (flat(torch.load(path, weights_only=True)) for path in (one, two))
    assert first.keys() == second.keys()
    return [name for name in first if not is_same(first[name], second[name])]
