"""As a program this file is one of two ranks, and writes what it found to the folder it is told."""

import data_pipelines  # noqa: F401  (its hook must be there before lightning)

# isort: split
import logging
import os
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import nn

from data_pipelines.datamodules import ClipDataModule
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.objectives import SIGReg
from jepa.training.collapse import CollapsePolicy
from jepa.training.health_monitor import HealthMonitor
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining
from tests.jepa.training.rank_fits import (
    RECIPES,
    TRAJECTORY_RECIPES,
    Found,
    JoinedBatches,
    JoinedTrajectories,
    latent_l1,
    make_trainer,
)

ROOT = Path(__file__).resolve().parents[3]
EVERYWHERE = {"effective_rank", "clip_rank", "relative_std", "clip_variance", "prediction_gain"}


def make_parts(output_dim=None):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
    )
    sizes = {"encoder_dim": 48, "dim": 24, "depth": 1, "num_heads": 2}
    return encoder, MaskedLatentPredictor(**sizes, output_dim=output_dim)


def pretraining(**options):
    settings = {"learning_rate": 1e-3, "ema_momentum": (0.98, 0.99), **options}
    return Pretraining(*make_parts(), **settings)


def regularized(**options):
    """Of no regularizers, nothing keeps clips apart: the representation collapses."""
    settings = {"embedding_dim": 8, "learning_rate": 3e-3, **options}
    return RegularizedPretraining(*make_parts(output_dim=8), **settings)


def make_data(shards, **options):
    settings = {"image_size": 32, "batch_size": 8, "steps_per_epoch": 1000, **options}
    return ClipDataModule(shards, 4, **settings)


class Kept(L.Callback):
    """Keeps what `HealthMonitor` logs, step by step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.steps.append({n: v for n, v in logged.items() if n.startswith("health/")})


def fit(model, data, folder, *, steps, strategy="auto", **options):
    """Trains with a monitor; returns it, what it logged at each step, and how the run ended."""
    monitor, kept, found = HealthMonitor(**{"every_n_steps": 10} | options), Kept(), Found()
    trainer = make_trainer(
        folder, strategy=strategy, max_steps=steps, callbacks=[monitor, kept, found]
    )
    message = ""
    try:
        trainer.fit(model, data)
    except ValueError as error:
        message = str(error)
    return {
        "monitor": monitor, "logged": kept.steps, "message": message, "losses": found.losses,
        "weights": found.weights, "steps": trainer.global_step,
    }  # fmt: skip


def test_a_run_that_collapses_is_warned_of_once_and_before_its_end(clip_shards, tmp_path, caplog):
    run = fit(regularized(regularizers=[]), make_data(clip_shards), tmp_path, steps=100)
    (line,) = [r.getMessage() for r in caplog.records if r.name.endswith("health_monitor")]
    assert line.startswith("collapsed at step ")
    assert int(line.split()[3].rstrip(":")) < 99
    assert "feature_std 0.0" in line
    assert "0.1 of the start's" in line
    assert "raise the EMA momentum or the regularizers' weight" in line
    assert run["monitor"].warned
    assert run["logged"][-1]["health/verdict"] == 2.0
    assert run["losses"][-1] < run["losses"][0]  # what a good loss curve is worth


@pytest.mark.parametrize("recipe", [pretraining, lambda: regularized(regularizers=[SIGReg()])])
def test_a_healthy_run_is_not_warned_of(recipe, clip_shards, tmp_path, caplog):
    run = fit(recipe(), make_data(clip_shards), tmp_path, steps=40)
    assert not run["monitor"].warned
    assert "collapsed at step" not in caplog.text
    assert run["logged"][-1]["health/verdict"] < 2.0


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_of_pretraining_is_measured(recipe, tmp_path):
    run = fit(RECIPES[recipe](), JoinedBatches(), tmp_path, steps=3, every_n_steps=1)
    names = {name.removeprefix("health/") for name in run["logged"][-1]}
    assert EVERYWHERE | {"verdict", "attention_entropy", "monitor_share"} <= names
    has_teacher = recipe not in ("sigreg", "vicreg")
    assert ({"ema_distance", "ema_feature_lag"} <= names) == has_teacher
    assert run["logged"][0].get("health/ema_distance", 0.0) == 0.0  # nobody has moved yet


@pytest.mark.parametrize("recipe", TRAJECTORY_RECIPES)
def test_every_recipe_of_world_models_is_measured(recipe, tmp_path):
    run = fit(TRAJECTORY_RECIPES[recipe](), JoinedTrajectories(), tmp_path, steps=1)
    names = {name.removeprefix("health/") for name in run["logged"][-1]}
    assert EVERYWHERE | {"verdict", "prediction_cosine"} <= names


def test_losses_and_weights_are_those_of_a_run_without_it(tmp_path):
    watched = fit(latent_l1(), JoinedBatches(), tmp_path, steps=3, every_n_steps=1)
    found = Found()
    trainer = make_trainer(tmp_path, max_steps=3, callbacks=[found])
    trainer.fit(latent_l1(), JoinedBatches())
    assert watched["losses"] == found.losses
    assert all(torch.equal(v, found.weights[n]) for n, v in watched["weights"].items())


def test_standardized_latents_keep_their_statistics(tmp_path):
    recipe = TRAJECTORY_RECIPES["joint_sigreg"]
    watched = fit(recipe(), JoinedTrajectories(), tmp_path, steps=2, every_n_steps=1)
    found = Found()
    trainer = make_trainer(tmp_path, max_steps=2, callbacks=[found])
    trainer.fit(recipe(), JoinedTrajectories())
    statistics = [name for name in found.weights if "running" in name or "standardize" in name]
    assert statistics
    assert all(torch.equal(watched["weights"][n], found.weights[n]) for n in statistics)


class SpoiltAtStepOne(L.Callback):
    """Makes all tokens constant after the first update."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for encoder in (pl_module.encoder, pl_module.target_encoder.encoder):
            nn.init.zeros_(encoder.transformer.norm.weight)


def fit_spoilt(folder, *, strategy="auto", patience=1):
    policy = CollapsePolicy(on_collapse="stop", patience=patience)
    monitor = HealthMonitor(every_n_steps=1, policy=policy)
    trainer = make_trainer(
        folder, strategy=strategy, max_steps=5, callbacks=[monitor, SpoiltAtStepOne()]
    )
    message = ""
    try:
        trainer.fit(latent_l1(monitor_every_n_steps=1000), JoinedBatches())
    except ValueError as error:
        message = str(error)
    return {"message": message, "steps": trainer.global_step}


@pytest.mark.parametrize("patience", [1, 3])
def test_a_collapse_stops_the_run_if_asked_after_as_many_measurements_as_asked(patience, tmp_path):
    run = fit_spoilt(tmp_path, patience=patience)
    assert run["steps"] == patience
    assert run["message"].startswith(f"collapsed at step {patience}: effective_rank 1 is below")
    assert run["message"].endswith("; on_collapse=warn goes on")


def test_a_resumed_run_still_knows_how_it_began():
    monitor, resumed = HealthMonitor(), HealthMonitor()
    monitor._before["(32, 48)"] = {"effective_rank": 9.0}
    resumed.load_state_dict(monitor.state_dict())
    assert resumed._before == {"(32, 48)": {"effective_rank": 9.0}}


def test_numbers_out_of_range_and_unknown_recipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 and max_clips at least 2, got 0 and 16"):
        HealthMonitor(every_n_steps=0)
    with pytest.raises(ValueError, match="max_clips at least 2, got 50 and 1"):
        HealthMonitor(max_clips=1)
    with pytest.raises(ValueError, match="not LightningModule: leave it out"):
        HealthMonitor().on_train_start(L.Trainer(logger=False), L.LightningModule())


def test_two_ranks_log_the_values_of_the_joined_batch_and_stop_together(tmp_path):
    alone = fit(latent_l1(), JoinedBatches(), tmp_path, steps=1, every_n_steps=1)["logged"][0]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    run = subprocess.run(
        [*launch, "--nproc_per_node", "2", __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for at_first, at_second in zip(first["logged"], second["logged"], strict=True):
        for name in at_first.keys() - {"health/monitor_share", "health/seconds_share"}:
            assert at_first[name] == at_second[name], name
    joined = first["logged"][0]
    for name in alone.keys() - {"health/prediction_cosine_shuffled"}:  # the order of clips differs
        if name != "health/attention_entropy" and not name.startswith("health/least"):
            assert joined[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-4), name
    assert first["stopped"] == second["stopped"]
    assert first["stopped"]["steps"] == 1


def main(folder):
    logging.getLogger("lightning.pytorch").disabled = True
    torch.set_num_threads(1)
    run = fit(latent_l1(), JoinedBatches(), folder, steps=3, strategy="ddp", every_n_steps=1)
    stopped = fit_spoilt(folder, strategy="ddp")
    torch.save({"logged": run["logged"], "stopped": stopped}, folder / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
