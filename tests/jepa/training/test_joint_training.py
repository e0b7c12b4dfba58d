"""Encoder and dynamics trained together, through real fits of tiny models."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import jepa
from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from data_pipelines.shards import pack_trajectories
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION, moving_shape_episodes
from jepa.__main__ import main
from jepa.checkpoints.native import load_encoder, save_encoder
from jepa.models import VideoEncoder
from jepa.models.conv_encoder import ConvEncoder
from jepa.models.latents import PatchTokens, PooledTokens, SlowFeatures
from jepa.objectives import InverseDynamics, LatentMSE, SIGReg, TemporalSimilarity, VICReg
from jepa.training.collapse import CollapsePolicy
from jepa.training.joint_training import JointTraining
from jepa.training.latent_windows import LatentWindows
from jepa.training.schedules import WarmupConstant
from jepa.training.state_list import note_entries
from planning.latent_world import LatentWorld
from tests.jepa.training.rank_fits import (
    TRAJECTORY_RECIPES,
    fit_joined_trajectories,
    make_trainer,
)


def make_model(**options):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=1, patch_size=8, tubelet_size=1, dim=48, depth=1,
        num_heads=4, positions="sincos_3d",
    )  # fmt: skip
    settings = {"latents": PooledTokens(dim=16), "dim": 24, "depth": 1, "num_heads": 2}
    settings |= {"rollout_steps": 2, "learning_rate": 3e-3}
    return JointTraining(encoder, **(settings | options))


def vicreg_parts():
    return {
        "regularizers": [VICReg(), TemporalSimilarity(weight=0.1)],
        "action_head": InverseDynamics(hidden_dim=64),
    }


def make_data(shards, *, frames=5, steps=200, **options):
    settings = {"image_size": 32, "batch_size": 16, "windows_per_trajectory": 2}
    return TrajectoryDataModule(shards, frames, steps_per_epoch=steps, **(settings | options))


def windows_of(folder):
    """Windows of one long trajectory, which is decoded once a batch."""
    return make_data(folder, batch_size=32, windows_per_trajectory=32)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One scene, cut in two: 200 frames to train on and 100 that were never seen."""
    (whole,) = moving_shape_episodes(num_episodes=1, num_frames=300, size=32)
    folders = []
    for name, first, last in (("train", 0, 200), ("held_out", 200, 300)):
        part = replace(
            whole,
            frames=whole.frames[first:last],
            states=whole.states[first:last],
            actions=whole.actions[first : last - 1],
        )
        folder = tmp_path_factory.mktemp(name)
        pack_trajectories([part], folder, specification=MOVING_SHAPE_SPECIFICATION)
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def learned(request, scene, tmp_path_factory):
    """A run of 80 steps in the scene with VICReg and its friends, or with SIGReg."""
    parts = {"vicreg": vicreg_parts(), "sigreg": {"regularizers": [SIGReg(num_projections=64)]}}
    model = make_model(**parts[request.param], monitor_every_n_steps=10)
    before, losses = weights(model.encoder), Losses()
    trainer = make_trainer(tmp_path_factory.mktemp("run"), max_steps=80, callbacks=[losses])
    trainer.fit(model, windows_of(scene[0]))
    return SimpleNamespace(model=model, trainer=trainer, before=before, losses=losses.losses)


class Losses(L.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("learned", ["vicreg", "sigreg"], indirect=True)
def test_the_loss_falls_the_encoder_has_moved_and_nothing_has_collapsed(learned):
    assert sum(learned.losses[-5:]) < 0.75 * sum(learned.losses[:5])
    moved = weights(learned.model.encoder) - learned.before
    assert moved.norm() > 0.05 * learned.before.norm()
    logged = learned.trainer.callback_metrics
    assert logged["collapse/feature_std"] > 0.4
    assert logged["collapse/clip_std"] > 0.4
    assert logged["collapse/effective_rank"] > 4
    assert logged["collapse/clip_cosine"] < 0.1
    assert not learned.model.collapse.warned


@pytest.mark.parametrize("learned", ["vicreg", "sigreg"], indirect=True)
def test_a_run_leaves_a_world_model_for_planning_and_its_encoder(learned):
    folder, world = Path(learned.trainer.default_root_dir), learned.model.world.eval()
    left, planned = jepa.from_pretrained(folder / "world_model"), LatentWorld.load(folder)
    frames = torch.randint(0, 256, (1, 3, 1, 32, 32), dtype=torch.uint8)
    actions = torch.rand(6, 3, 2) * 0.2 - 0.1
    start = planned.encode(frames[0, :, 0].permute(1, 2, 0).numpy())
    with torch.no_grad():
        latents = world.encode(frames)[0, 0]
        imagined = world.rollout(latents.expand(6, 1, 16), torch.empty(6, 0), actions).tokens
        torch.testing.assert_close(left.encode(frames)[0, 0], latents)
        torch.testing.assert_close(start.tokens, latents)
        torch.testing.assert_close(planned.rollout(start, actions).tokens, imagined)
    assert (imagined[0] - imagined[1]).abs().max() > 1e-3  # actions matter
    for name, value in world.state_dict().items():
        assert torch.equal(left.state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in left.encoder.parameters())
    encoder = load_encoder(folder / "encoder")
    assert torch.equal(weights(encoder), weights(world.encoder))


@pytest.mark.parametrize("learned", ["vicreg"], indirect=True)
def test_held_out_actions_are_told_better_than_by_their_mean_and_frames_than_by_copies(
    learned, scene
):
    data = make_data(scene[1], frames=100, batch_size=1, windows_per_trajectory=1, steps=1)
    (episode,) = data.train_dataloader()
    model = learned.model.eval()
    with torch.no_grad():
        latents = model.encode(episode)
        errors = model.errors(latents, episode)
    actions = model.world.normalize_actions(episode.actions)
    variance = (actions - actions.mean((0, 1))).square().mean()
    assert errors["actions"] < 0.6 * variance
    assert errors["rollout"] < 0.9 * errors["copy"]


def test_without_regularizers_all_frames_become_the_same_and_it_is_said(scene, tmp_path):
    """The high and constant learning rate only makes it quicker."""
    model = make_model(
        regularizers=[],
        monitor_every_n_steps=10,
        collapse_policy=CollapsePolicy(on_collapse="stop"),
        learning_rate=1e-2,
        schedule=WarmupConstant(warmup_steps=0),
    )
    losses = Losses()
    trainer = make_trainer(tmp_path, max_steps=200, callbacks=[losses])
    with pytest.raises(ValueError, match=r"the representation is collapsing: .* std between clips"):
        trainer.fit(model, windows_of(scene[0]))
    assert 20 < trainer.global_step < 200
    assert losses.losses[-1] < 0.05 * losses.losses[0]  # and the loss looks fine


@pytest.fixture
def prepared(trajectory_shards, tmp_path):
    """Makes a model with all parts, after one step, and the batch that comes next."""

    def make(**options):
        model, data = make_model(**(vicreg_parts() | options)), make_data(trajectory_shards)
        make_trainer(tmp_path, max_steps=1).fit(model, data)
        model.zero_grad()
        return model, next(iter(data.train_dataloader()))

    return make


def test_gradients_reach_encoder_latents_dynamics_and_head(prepared):
    model, batch = prepared()
    model.loss(model.encode(batch), batch).total.backward()
    names = {"encoder", "latents", "world.dynamics", "action_head"}
    assert {model._name_of(part) for part in model.trained_modules()} == names | {"regularizers"}
    for part in model.trained_modules():
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_collapse_is_measured_once_a_step_also_when_gradients_accumulate(
    trajectory_shards, tmp_path, monkeypatch
):
    """A policy counts bad measurements in a row: batches of one step are not several of them."""
    model, measured = make_model(**vicreg_parts(), monitor_every_n_steps=2), []
    measure = model.collapse.measure

    def noted(*arguments, **options):
        measured.append(model.global_step)
        return measure(*arguments, **options)

    monkeypatch.setattr(model.collapse, "measure", noted)
    trainer = make_trainer(tmp_path, max_steps=3, accumulate_grad_batches=2)
    trainer.fit(model, make_data(trajectory_shards, batch_size=4))
    assert measured == [0, 1]  # the first step, and every second


@pytest.mark.parametrize("way", ["teacher_forcing", "rollout"])
@pytest.mark.parametrize("stop_gradient", [False, True])
def test_the_last_frame_which_is_only_a_target_gets_gradient_unless_it_is_stopped(
    way, stop_gradient, prepared
):
    model, batch = prepared(objective=LatentMSE(stop_gradient=stop_gradient))
    latents = model.encode(batch).detach().requires_grad_()
    getattr(model, way)(latents, batch)[0].backward()
    by_frame = latents.grad.abs().sum((0, 2, 3))
    assert by_frame[0] > 0
    assert (by_frame[-1] == 0) == stop_gradient


def test_the_loss_is_the_sum_of_its_parts_with_their_weights(prepared):
    model, batch = prepared(rollout_weight=0.5)
    loss = model.loss(model.encode(batch), batch)
    weight_of = {
        "teacher_forcing": 1, "rollout": 0.5, "state": model.state_weight, "variance": 16,
        "covariance": 1, "temporal_similarity": 0.1, "inverse_dynamics": 1,
    }  # fmt: skip
    assert loss.parts.keys() == weight_of.keys()
    expected = sum(weight_of[name] * part for name, part in loss.parts.items())
    torch.testing.assert_close(loss.total, expected)


def test_regularizers_see_the_batch_at_each_time_and_the_head_each_action_with_its_frames(
    prepared,
):
    model, batch = prepared()
    latents = model.encode(batch)  # (16, 5, 1, 16)
    by_hand = torch.stack([VICReg()(latents[:, t, 0], step=0).total for t in range(5)]).mean()
    loss = model.loss(latents, batch)
    found = 16 * loss.parts["variance"] + loss.parts["covariance"]
    torch.testing.assert_close(found, by_hand)
    pair = torch.cat([latents[3, 1, 0], latents[3, 2, 0]])
    told = model.action_head.head(pair)
    error = (told - model.world.normalize_actions(batch.actions)[3, 1]).square().mean()
    single = batch._replace(actions=batch.actions[3:4, 1:2])
    one = model.action_terms(latents[3:4, 1:3, 0], single, model.action_head)
    torch.testing.assert_close(one.total, error)


def test_latents_of_several_tokens_are_regularized_by_their_mean(prepared):
    model, batch = prepared(latents=PatchTokens())
    latents = model.encode(batch)
    assert latents.shape == (16, 5, 16, 48)
    assert torch.equal(model.embed(latents), latents.mean(2))
    model.loss(latents, batch).total.backward()
    assert weights_have_gradient(model.encoder)


def weights_have_gradient(module):
    return all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_a_resumed_run_is_the_same_run(trajectory_shards, tmp_path):
    def fit(folder, **options):
        saving, losses = ModelCheckpoint(folder, "{step}", every_n_train_steps=3), Losses()
        saving.save_top_k = -1
        model = make_model(
            regularizers=[SIGReg(num_projections=16), *vicreg_parts()["regularizers"]],
            action_head=InverseDynamics(hidden_dim=8),
        )
        trainer = make_trainer(folder, max_steps=6, callbacks=[saving, losses])
        trainer.fit(model, make_data(trajectory_shards, steps=4), **options)
        return model, losses.losses

    whole, straight = fit(tmp_path / "whole")
    path = str(tmp_path / "whole" / "step=3.ckpt")
    resumed, losses = fit(tmp_path / "resumed", ckpt_path=path)
    assert losses == straight[3:]
    for name, value in whole.state_dict().items():  # the running statistics too
        assert torch.equal(resumed.state_dict()[name], value)


def test_a_validation_logs_errors_on_other_trajectories(scene, tmp_path):
    train, held_out = scene
    data = make_data(train, val_shards=held_out, samples_may_repeat=True)  # one trajectory
    trainer = make_trainer(tmp_path, max_steps=2, val_check_interval=2)
    model = make_model(**vicreg_parts())
    trainer.fit(model, data)
    names = {"teacher_forcing", "rollout", "copy", "actions"}
    logged = {name: value for name, value in trainer.callback_metrics.items() if "valid" in name}
    assert logged.keys() == {f"validation/{name}" for name in names}
    batch = next(iter(data.val_dataloader())).only_valid()
    with torch.no_grad():
        errors = model.eval().errors(model.encode(batch), batch)
    for name in names:
        torch.testing.assert_close(logged[f"validation/{name}"], errors[name])


def test_a_convolutional_encoder_learns_too_and_lies_in_the_world_model(
    trajectory_shards, tmp_path
):
    torch.manual_seed(0)
    encoder = ConvEncoder(image_size=32, widths=(8, 16))
    before = weights(encoder).clone()
    model = JointTraining(
        encoder, latents=PooledTokens(dim=8, pool_grid=(2, 2)), dim=24, depth=1, num_heads=2
    )
    data = make_data(trajectory_shards, batch_size=4, steps=2)
    make_trainer(tmp_path, max_steps=2).fit(model, data)
    assert not torch.equal(weights(encoder), before)
    read = LatentWorld.load(tmp_path).model.encoder
    assert isinstance(read, ConvEncoder)
    torch.testing.assert_close(weights(read), weights(encoder))
    assert not (tmp_path / "encoder").exists()  # that folder is of encoders of video


def test_a_run_may_start_from_a_pretrained_encoder(tmp_path):
    trained = make_model().encoder
    with torch.no_grad():
        trained.patch_embed.bias.add_(1)
    folder = save_encoder(trained, tmp_path / "pretrained")
    model = make_model()
    assert not torch.equal(weights(model.encoder), weights(trained))
    model.start_from(folder)
    assert torch.equal(weights(model.encoder), weights(trained))
    other = VideoEncoder(**trained.config | {"depth": 2})
    with pytest.raises(ValueError, match=r"has encoder.depth=2, the config encoder.depth=1"):
        model.start_from(save_encoder(other, tmp_path / "deeper"))
    with pytest.raises(ValueError, match=r"--from takes the folder of a world model or an encoder"):
        model.start_from(tmp_path / "last.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", TRAJECTORY_RECIPES)
def test_two_ranks_with_different_data_are_one_rank_with_the_joined_batch(
    recipe, two_ranks, tmp_path
):
    expected = fit_joined_trajectories(recipe, tmp_path)
    first, second = two_ranks(f"{recipe}-ddp")
    assert first["losses"] != second["losses"]  # their data differ
    np.testing.assert_allclose(
        np.mean([first["losses"], second["losses"]], axis=0), expected["losses"], rtol=1e-6
    )
    for found in (first, second):
        assert found["gradients"].keys() == expected["gradients"].keys()
        for name, value in expected["gradients"].items():
            torch.testing.assert_close(found["gradients"][name], value, atol=3e-6, rtol=0)
        # Standardising takes away what the last norm adds: of a gradient that is zero but for
        # rounding, Adam makes a step all the same, which nothing but the running mean sees.
        idle = ("transformer.norm.bias", "transformer.norm.weight", "standardize.mean")
        for name, value in expected["weights"].items():
            if not name.endswith(idle):
                torch.testing.assert_close(found["weights"][name], value, atol=1e-5, rtol=0)
    for name, value in first["weights"].items():
        assert torch.equal(second["weights"][name], value)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Four episodes of 12 steps in two rooms."""
    folder = tmp_path_factory.mktemp("rooms") / "shards"
    assert main(["plan", "record", "--episodes", "4", "--steps", "12", str(folder)]) == 0
    return str(folder)


@pytest.mark.parametrize("name", ["vicreg", "sigreg"])
def test_the_tiny_config_trains_through_the_command_line_and_planning_reads_what_it_leaves(
    name, recordings, tmp_path, capsys
):
    config, run = f"world_model/joint_{name}_tiny.yaml", str(tmp_path / "run")
    options = {
        "data.shards": recordings, "data.batch_size": 8, "data.steps_per_epoch": 2,
        "trainer.max_steps": 2, "trainer.default_root_dir": run, "trainer.accelerator": "cpu",
        "data.windows_per_trajectory": 4,
    }  # fmt: skip
    arguments = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    assert main(["fit", "--config", config, *arguments]) == 0, capsys.readouterr().err
    planner = "--episodes 1 --horizon 2 --execute 2 --samples 4 --elites 2 --threads 1".split()
    assert main(["plan", "evaluate", "--world", run, *planner]) == 0, capsys.readouterr().err
    assert "cem" in capsys.readouterr().out
    assert load_encoder(tmp_path / "run" / "encoder").grid == (1, 4, 4)


# What is refused.


def test_clips_without_actions_are_refused(tmp_path, clip_shards):
    data = ClipDataModule(clip_shards, 4, image_size=32, batch_size=4)
    with pytest.raises(ValueError, match="needs data with actions and states: use"):
        make_trainer(tmp_path, max_steps=1).fit(make_model(), data)


def test_windows_shorter_than_a_rollout_are_refused(tmp_path, trajectory_shards):
    model = make_model(rollout_steps=5)
    with pytest.raises(
        ValueError, match=r"rollout_steps=5 needs windows of at least 6 frames, got"
    ):
        make_trainer(tmp_path, max_steps=1).fit(model, make_data(trajectory_shards))


def test_frames_that_are_encoded_already_are_refused(tmp_path, trajectory_shards, encoder_folder):
    trajectories = make_data(trajectory_shards, steps=1)
    windows = LatentWindows(trajectories, encoder_folder, window_frames=4)
    with pytest.raises(ValueError, match=r"needs frames: use .* itself, or LatentWindows"):
        make_trainer(tmp_path, max_steps=1).fit(make_model(), windows)


def test_what_cannot_learn_here_is_refused():
    with pytest.raises(ValueError, match="SlowFeatures are fitted to a frozen encoder"):
        make_model(latents=SlowFeatures())
    for options in ({"has_image_tokenizer": True}, {"levels": [0, 1]}):
        encoder = VideoEncoder(image_size=32, dim=48, depth=2, num_heads=4, **options)
        with pytest.raises(ValueError, match="parts that no frame goes through"):
            JointTraining(encoder)


def test_a_batch_of_one_window_is_one_clear_line(tmp_path, trajectory_shards):
    data = make_data(trajectory_shards, batch_size=1, windows_per_trajectory=1)
    with pytest.raises(ValueError, match=r"at least 2 rows to have statistics, .*raise the batch"):
        make_trainer(tmp_path, max_steps=1).fit(make_model(), data)


def test_a_checkpoint_of_other_dynamics_is_refused_by_name():
    ours, theirs = make_model(), make_model(dim=48)
    with pytest.raises(ValueError, match=r"has dynamics.dim=48, the config dynamics.dim=24"):
        ours.refuse_to_resume({"architecture": theirs.architecture})
    same = {"architecture": make_model().architecture}
    note_entries(same)
    ours.refuse_to_resume(same)
