"""One thread a process, tiny models, and tiny shards of moving shapes."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.synthetic import (
    MOVING_SHAPE_SPECIFICATION,
    moving_shape_episodes,
    write_moving_shapes,
)
from jepa.checkpoints.native import save_encoder
from jepa.models import AttentiveProbe, VideoEncoder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


@pytest.fixture
def make_encoder():
    """Makes an encoder of 2 x 4 x 4 tokens, with weights large enough that everything matters."""

    def make(*, seed=0, **options):
        torch.manual_seed(seed)
        settings = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8}
        settings |= {"dim": 48, "depth": 2, "num_heads": 4, **options}
        encoder = VideoEncoder(**settings)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return encoder

    return make


@pytest.fixture
def make_probe():
    """Makes a probe of tokens 24 wide, with weights large enough that everything matters."""

    def make(**options):
        settings = {"dim": 24, "num_classes": {"label": 5}, "num_heads": 3, "depth": 3}
        probe = AttentiveProbe(**settings | options)
        with torch.no_grad():
            for parameter in probe.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return probe

    return make


@pytest.fixture(scope="session")
def clip_shards(tmp_path_factory):
    """Eight videos of 12 frames, 32 pixels wide."""
    folder = tmp_path_factory.mktemp("clips")
    write_moving_shapes(folder / "videos", num_videos=8, num_frames=12, size=32)
    pack_videos(folder / "videos", folder / "shards")
    return str(folder / "shards")


@pytest.fixture(scope="session")
def trajectory_shards(tmp_path_factory):
    """Eight trajectories of 12 frames, 32 pixels wide, of a shape that obeys its actions."""
    folder = tmp_path_factory.mktemp("trajectories")
    episodes = moving_shape_episodes(num_episodes=8, num_frames=12, size=32)
    pack_trajectories(episodes, folder, specification=MOVING_SHAPE_SPECIFICATION)
    return str(folder)


@pytest.fixture(scope="session")
def one_scene_shards(tmp_path_factory):
    """One trajectory of 200 frames: one shape, one background, so that only places differ."""
    folder = tmp_path_factory.mktemp("one_scene")
    episodes = moving_shape_episodes(num_episodes=1, num_frames=200, size=32)
    pack_trajectories(episodes, folder, specification=MOVING_SHAPE_SPECIFICATION)
    return str(folder)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A saved encoder without training."""
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
    )
    return str(save_encoder(encoder, tmp_path_factory.mktemp("run") / "encoder"))


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory, clip_shards):
    """Returns what each fit of rank_fits.py found on two gloo ranks, by name: one start for all."""
    folder = tmp_path_factory.mktemp("two_ranks")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ROOT / "tests" / "jepa" / "training" / "rank_fits.py"
    run = subprocess.run(
        [*launch, "--nproc_per_node", "2", str(script), str(folder), clip_shards],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr

    def found(name):
        return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]

    found.folder = folder
    return found


@pytest.fixture
def make_trainer(tmp_path, monkeypatch):
    """Makes a silent trainer; losses are kept in `trainer.losses`."""
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.losses.append(float(outputs["loss"]))

    def make(max_steps, *, callbacks=(), folder=tmp_path, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = L.Trainer(
                max_steps=max_steps,
                accelerator="cpu",
                logger=False,
                enable_checkpointing=bool(callbacks),
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                default_root_dir=folder,
                callbacks=[Losses(), *callbacks],
                **options,
            )
        trainer.losses = []
        return trainer

    return make
