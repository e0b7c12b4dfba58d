import os

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.batch import TrajectoryBatch
from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from data_pipelines.mixture import MixtureDataModule
from data_pipelines.shards import pack_trajectories
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import Episode, TrajectorySpecification
from jepa.checkpoints.native import load_encoder, load_world_model, save_encoder
from jepa.models import Prediction
from jepa.models.dynamics import GRU, ActionConditionedPredictor, AdaLN, Ensemble
from jepa.models.latents import SlowFeatures
from jepa.training.latent_windows import LatentWindows
from jepa.training.world_model_training import WorldModelTraining

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")


@pytest.fixture
def make_model(encoder_folder):
    def make(**options):
        torch.manual_seed(0)
        settings = {"dim": 24, "depth": 1, "num_heads": 2, "learning_rate": 3e-3}
        return WorldModelTraining(encoder_folder, **(settings | options))

    return make


@pytest.fixture
def make_stream(trajectory_shards):
    """Windows whose frames are encoded in every step."""

    def make(*, frames=5, **options):
        settings = {"image_size": 32, "batch_size": 8, "steps_per_epoch": 30}
        return TrajectoryDataModule(trajectory_shards, frames, **(settings | options))

    return make


@pytest.fixture
def make_windows(one_scene_shards, encoder_folder):
    """Windows of frames that are encoded once."""

    def make(*, frames=5, encoder=encoder_folder, steps_per_epoch=50):
        trajectories = TrajectoryDataModule(
            one_scene_shards, 200, image_size=32, batch_size=1, steps_per_epoch=1
        )
        return LatentWindows(
            trajectories,
            encoder,
            window_frames=frames,
            batch_size=32,
            steps_per_epoch=steps_per_epoch,
        )

    return make


def slow_features():
    return SlowFeatures(num_features=8, num_components=32)


@pytest.mark.parametrize("way", ["stream", pytest.param("windows", marks=LONG)])
def test_a_tiny_run_learns_and_leaves_a_world_model(
    way, make_model, make_stream, make_windows, make_trainer, tmp_path
):
    steps, latents, make_data = {
        "stream": (40, None, make_stream),
        "windows": (250, slow_features(), make_windows),
    }[way]
    model, trainer = make_model(latents=latents), make_trainer(steps)
    trainer.fit(model, make_data())
    # The loss falls (to 0.46 to 0.55 of what it was, over ten seeds), and where there was time for
    # it, below that of copying the latest frame.
    assert sum(trainer.losses[-5:]) < 0.65 * sum(trainer.losses[:5])
    logged = trainer.callback_metrics
    assert way == "stream" or logged["loss/teacher_forcing"] < 0.9 * logged["baseline/copy"]
    # The encoder has not moved.
    before, world = load_encoder(model.encoder_folder), model.world.eval()
    for name, value in before.state_dict().items():
        assert torch.equal(world.encoder.state_dict()[name], value)
    # What the run leaves imagines the same.
    loaded = load_world_model(tmp_path)
    frames = torch.randint(0, 256, (2, 3, 1, 32, 32), dtype=torch.uint8)
    states, actions = torch.rand(2, 2), torch.rand(2, 3, 2) * 0.2 - 0.1
    left, right = (
        world_of.rollout(world_of.encode(frames)[:, 0], world_of.normalize_states(states), actions)
        for world_of in (world, loaded)
    )
    assert torch.equal(left.tokens, right.tokens) and torch.equal(left.state, right.state)


def test_a_learned_world_obeys_its_actions(make_model, make_windows, make_trainer):
    """State is in the model: moving right must be imagined as moving right."""
    model = make_model(latents=slow_features(), rollout_steps=2)
    make_trainer(400).fit(model, make_windows())
    world = model.world.eval()
    encoded = model.trainer.datamodule.encoded
    start = world.latents(encoded.tokens[0, :20])
    states = world.normalize_states(encoded.states[0, :20])
    moves = torch.tensor([[0.08, 0.0], [-0.08, 0.0], [0.0, 0.08], [0.0, -0.08]])
    ends = [
        world.rollout(start, states, move.expand(20, 2, 2)).state[:, -1].mean(0) for move in moves
    ]
    assert ends[0][0] > ends[1][0] + 0.5  # in standard deviations
    assert ends[2][1] > ends[3][1] + 0.5


ARCHITECTURES = {
    "adaln": lambda: AdaLN(dim=32, depth=2, num_heads=2, head_dim=16, mlp_dim=64, dropout=0.05),
    "gru": lambda: GRU(dim=48),
    "ensemble": lambda: Ensemble(
        ActionConditionedPredictor(dim=24, depth=1, num_heads=2), num_members=3, hidden_dim=24
    ),
    "gru_ensemble": lambda: Ensemble(GRU(dim=48), num_members=3, hidden_dim=24),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_learns_more_than_to_copy(kind, make_windows, make_trainer, tmp_path,
                                                     encoder_folder, monkeypatch):  # fmt: skip
    """With noise on actions, two frames of context, and the gradient cut once in a rollout."""
    torch.manual_seed(0)
    model = WorldModelTraining(
        encoder_folder, latents=slow_features(), dynamics=ARCHITECTURES[kind](), learning_rate=5e-3,
        context_frames=2, rollout_steps=4, truncate_rollout_after=2, action_noise_std=0.02,
    )  # fmt: skip
    data = make_windows(frames=6)
    monkeypatch.setattr(type(data), "val_dataloader", lambda self: self.train_dataloader())
    trainer = make_trainer(100, limit_val_batches=4, check_val_every_n_epoch=2)
    trainer.fit(model, data)
    errors = trainer.callback_metrics
    # In 100 steps to 0.63 to 0.74 of the error of copying, one step ahead.
    assert errors["validation/teacher_forcing"] < 0.85 * errors["validation/copy"]
    whole = model.world.latents(data.encoded.tokens)
    keeping = [(whole[:, step:] - whole[:, :-step]).abs().mean() for step in (1, 2, 3, 4)]
    assert errors["validation/rollout"] < 0.85 * torch.stack(keeping).mean()
    # What the run leaves imagines the same, from what it remembers.
    world, loaded = model.world.eval(), load_world_model(tmp_path)
    assert loaded.context_frames == 2
    latents = world.latents(data.encoded.tokens[:, :2])
    states = world.normalize_states(data.encoded.states[:, :2])
    actions = data.encoded.actions[:, :5]
    imagined = []
    for model in (world, loaded):
        memory = model.remember(latents[:, :1], states[:, :1], actions[:, :1])
        imagined.append(model.rollout(latents[:, 1], states[:, 1], actions[:, 1:], memory=memory))
    torch.testing.assert_close(imagined[0].tokens, imagined[1].tokens, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(imagined[0].state, imagined[1].state, atol=1e-5, rtol=1e-5)


def test_slow_features_are_fitted_once_and_come_back_with_a_checkpoint(
    make_model, make_windows, make_trainer, tmp_path, monkeypatch
):
    def fit(steps, **options):
        saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
        model = make_model(latents=slow_features())
        trainer = make_trainer(steps, callbacks=[saving])
        trainer.fit(model, make_windows(steps_per_epoch=4), **options)
        return model, trainer

    whole, straight = fit(6)
    assert whole.latents.is_fitted

    def never(self, latents):
        raise AssertionError("fitted again")

    monkeypatch.setattr(WorldModelTraining, "fit_slow_features", never)
    resumed, trainer = fit(6, ckpt_path=str(tmp_path / "step=3.ckpt"))
    assert trainer.losses == straight.losses[-3:]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=1e-6, rtol=0)


def test_slow_features_see_all_of_the_batches_that_are_asked_for(
    make_model, make_windows, make_trainer, monkeypatch
):
    seen = []
    monkeypatch.setattr(SlowFeatures, "fit", lambda self, moments: seen.append(moments))
    make_trainer(1).fit(make_model(latents=slow_features(), fit_batches=3), make_windows())
    assert (seen[0].num_frames, seen[0].num_changes) == (3 * 32 * 5, 3 * 32 * 4)


@pytest.mark.parametrize("is_encoded_once", [False, True])
def test_slow_features_may_see_every_recorded_frame_where_training_takes_every_third(
    make_model, make_trainer, trajectory_shards, encoder_folder, monkeypatch, is_encoded_once
):
    data = TrajectoryDataModule(
        trajectory_shards, 4, image_size=32, batch_size=3, frame_stride=3, actions="concatenate"
    )
    if is_encoded_once:
        data = LatentWindows(data, encoder_folder, window_frames=4, batch_size=3)
    seen, fit = [], SlowFeatures.fit
    monkeypatch.setattr(SlowFeatures, "fit", lambda *args: (seen.append(args[1]), fit(*args)))
    for every in (False, True):
        model = make_model(latents=slow_features(), fit_batches=2, fits_every_frame=every)
        make_trainer(1).fit(model, data)
    taken, recorded = seen
    assert (taken.num_frames, taken.num_changes) == (2 * 3 * 4, 2 * 3 * 3)
    assert (recorded.num_frames, recorded.num_changes) == (2 * 10, 2 * 9)  # windows as long


@pytest.mark.parametrize("is_encoded_once", [False, True])
def test_a_mixture_has_not_every_recorded_frame(
    make_model, make_stream, make_trainer, encoder_folder, is_encoded_once
):
    data = MixtureDataModule(
        [make_stream(), make_stream()], [1, 2], batch_size=6, steps_per_epoch=1
    )
    if is_encoded_once:
        data = LatentWindows(data, encoder_folder, window_frames=4, batch_size=3)
    with pytest.raises(ValueError, match="MixtureDataModule; leave"):
        make_trainer(1).fit(make_model(latents=slow_features(), fits_every_frame=True), data)


def test_patch_tokens_are_fitted_to_nothing(make_model):
    with pytest.raises(ValueError, match="fits_every_frame is of SlowFeatures; PatchTokens are"):
        make_model(fits_every_frame=True)


class AddingWorld(torch.nn.Module):
    """Stands for a world model: latents are numbers that actions add to."""

    @property
    def dynamics(self):
        return self

    def normalize_states(self, states):
        return states

    def normalize_actions(self, actions):
        return actions

    def rollout_members(self, latents, states, actions, *, memory, truncate_after):
        total = actions.cumsum(1).unsqueeze(2)  # (batch, horizon, 1, 1)
        tokens = latents.unsqueeze(1) + total
        return Prediction(tokens[None], (states.unsqueeze(1) + total[:, :, 0])[None])


@pytest.mark.parametrize(("steps", "segments"), [(1, 6), (2, 3), (3, 2), (4, 1), (6, 1)])
def test_a_window_is_cut_into_rollouts_that_start_at_true_frames(steps, segments, make_model):
    """A world that adds its actions up imagines the truth, so both losses are zero."""
    model = make_model(rollout_steps=steps)
    model.world = AddingWorld()
    actions = torch.randn(2, 6, 1)
    states = torch.cat((torch.zeros(2, 1, 1), actions.cumsum(1)), dim=1)
    batch = TrajectoryBatch(torch.empty(0), states, actions, ("a", "b"))
    assert model._segments(7) == segments
    latents = states.unsqueeze(2)  # (batch, time, tokens, dim)
    assert [loss.item() for loss in model.rollout(latents, batch)] == pytest.approx(
        [0, 0], abs=1e-6
    )
    wrong = latents + torch.arange(7).view(1, 7, 1, 1)  # latents that drift by 1 a frame
    loss, _ = model.rollout(wrong, batch)
    assert loss.item() == pytest.approx((steps + 1) / 2, abs=1e-5)  # mean of 1 ... steps


def test_a_world_of_pixels_alone_has_no_loss_of_states(make_model, make_windows, make_trainer):
    trainer = make_trainer(2)
    trainer.fit(make_model(uses_state=False), make_windows())
    assert trainer.callback_metrics["loss/state"] == 0
    logged = trainer.callback_metrics
    parts = logged["loss/teacher_forcing"] + logged["loss/rollout"]
    torch.testing.assert_close(logged["loss/total"], parts)


def test_the_error_of_states_counts_with_its_weight(make_model, make_windows, make_trainer):
    trainer = make_trainer(1)
    trainer.fit(make_model(state_weight=0.25), make_windows())
    logged = trainer.callback_metrics
    assert logged["loss/state"] > 0
    total = logged["loss/teacher_forcing"] + logged["loss/rollout"] + 0.25 * logged["loss/state"]
    torch.testing.assert_close(logged["loss/total"], total)


# Actions between frames that are not recorded neighbours.


def test_a_world_model_of_joined_actions_trains_and_says_what_they_are(
    make_model, make_stream, make_trainer, tmp_path
):
    data = make_stream(frames=4, frame_stride=2, actions="concatenate")
    trainer = make_trainer(20)
    trainer.fit(make_model(), data)
    assert np.isfinite(trainer.losses).all()
    assert np.mean(trainer.losses[-4:]) < 0.9 * np.mean(trainer.losses[:4])
    loaded = load_world_model(tmp_path)
    assert loaded.dynamics.action_dim == 4
    recorded = data.index.statistics
    assert loaded.action_mean.tolist() == pytest.approx(recorded.action_mean * 2)
    assert loaded.action_std.tolist() == pytest.approx(recorded.action_std * 2)
    actions, specification = loaded.actions, data.specification
    assert (actions.names, actions.units) == (
        specification.action_names, specification.action_units,
    )  # fmt: skip
    assert (actions.low, actions.high) == ((pytest.approx(-0.1),) * 4, (pytest.approx(0.1),) * 4)
    assert actions.frames_per_second == data.index.specification.frames_per_second / 2
    assert (actions.mode, actions.num_steps) == ("concatenate", 2)


def test_a_world_model_of_a_mixture_is_scaled_by_the_quantiles_of_its_sources(
    make_model, make_stream, make_trainer, tmp_path
):
    sources = [make_stream(frames=4), make_stream(frames=4)]
    data = MixtureDataModule(sources, [1, 2], batch_size=6, steps_per_epoch=2)
    trainer = make_trainer(2)
    trainer.fit(make_model(normaliser="quantiles"), data)
    assert np.isfinite(trainer.losses).all()
    loaded, seen = load_world_model(tmp_path), sources[0].statistics
    low, high = np.array(seen.action_quantile_01), np.array(seen.action_quantile_99)
    np.testing.assert_allclose(loaded.action_mean, (low + high) / 2, atol=1e-6)
    np.testing.assert_allclose(loaded.action_std, (high - low) / 2, rtol=1e-6)
    assert loaded.actions.names == sources[0].specification.action_names


def test_trajectories_that_are_encoded_once_tell_the_same_of_their_actions(
    trajectory_shards, encoder_folder, make_model, make_trainer, tmp_path
):
    trajectories = TrajectoryDataModule(
        trajectory_shards, 6, image_size=32, batch_size=4, frame_stride=2, actions="concatenate"
    )
    data = LatentWindows(
        trajectories, encoder_folder, window_frames=4, batch_size=8, steps_per_epoch=4
    )
    trainer = make_trainer(3)
    trainer.fit(make_model(), data)
    assert data.encoded.actions.shape[1:] == (5, 4)
    loaded = load_world_model(tmp_path)
    assert (loaded.actions.num_steps, loaded.dynamics.action_dim) == (2, 4)
    assert loaded.actions.names == trajectories.specification.action_names


@pytest.fixture(scope="module")
def pose_shards(tmp_path_factory):
    """Poses that wander, at 15 frames a second; what was commanded says nothing."""
    folder, names = tmp_path_factory.mktemp("poses"), ("x", "y", "z", "roll", "pitch", "yaw")
    specification = TrajectorySpecification(
        state_names=(*names, "gripper"),
        state_units=("metres",) * 3 + ("radians",) * 3 + ("1",),
        action_names=("command",),
        action_units=("1",),
        action_low=(-1.0,),
        action_high=(1.0,),
        frames_per_second=15.0,
        rotation="extrinsic xyz Euler, radians",
    )

    def episodes():
        for number in range(4):
            rng = np.random.default_rng(number)
            yield Episode(
                frames=rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8),
                states=np.cumsum(rng.normal(0, 0.1, (24, 7)), axis=0).astype(np.float32),
                actions=np.zeros((23, 1), np.float32),
                key=f"episode-{number}",
                frames_per_second=15.0,
            )

    pack_trajectories(episodes(), folder, specification=specification)
    return str(folder)


def test_a_world_model_of_pose_differences_at_four_frames_a_second(
    pose_shards, make_model, make_trainer, tmp_path
):
    data = TrajectoryDataModule(
        pose_shards, 4, image_size=32, batch_size=4, frames_per_second=4, actions="pose_difference",
        steps_per_epoch=6,
    )  # fmt: skip
    trainer = make_trainer(6)
    trainer.fit(make_model(), data)
    assert np.isfinite(trainer.losses).all()
    loaded = load_world_model(tmp_path)
    assert loaded.dynamics.action_dim == 7
    assert loaded.action_std.tolist() == pytest.approx(data.statistics.action_std)
    assert loaded.actions.names[3:] == ("droll", "dpitch", "dyaw", "dgripper")
    assert loaded.actions.low == data.statistics.action_min
    assert (loaded.actions.mode, loaded.actions.frames_per_second) == ("pose_difference", 4.0)
    # Every action that was trained on is inside the bounds, and normalised to the unit size.
    actions = torch.cat([batch.actions for batch in data.train_dataloader()]).flatten(0, 1)
    assert (actions >= torch.tensor(loaded.actions.low)).all()
    assert (actions <= torch.tensor(loaded.actions.high)).all()
    sizes = loaded.normalize_actions(actions).std(0)
    torch.testing.assert_close(sizes, torch.ones(7), atol=0.35, rtol=0)


# What is refused.


def test_rollouts_longer_than_the_windows_are_refused(make_model, make_stream, make_trainer):
    with pytest.raises(ValueError, match=r"rollout_steps=5 .* at least 6 frames, got 5; lower it"):
        make_trainer(1).fit(make_model(rollout_steps=5), make_stream())


@pytest.mark.parametrize("name", ["rollout_steps", "fit_batches"])
def test_no_rollout_and_no_fit_are_refused(name, make_model):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        make_model(**{name: 0})


def test_clips_without_actions_are_refused(make_model, make_trainer, clip_shards):
    data = ClipDataModule(clip_shards, 4, image_size=32, batch_size=4)
    with pytest.raises(ValueError, match="needs data with actions and states: use"):
        make_trainer(1).fit(make_model(), data)


def test_shards_of_videos_are_refused(make_model, make_trainer, clip_shards):
    data = TrajectoryDataModule(clip_shards, 4, image_size=32, batch_size=4)
    with pytest.raises(ShardError, match="holds no trajectories"):
        make_trainer(1).fit(make_model(), data)


def test_data_encoded_by_another_encoder_are_refused(
    make_model, make_windows, make_trainer, make_encoder, tmp_path
):
    other = str(save_encoder(make_encoder(seed=5), tmp_path / "other"))
    with pytest.raises(ValueError, match=r"encoded by .*other.* give both the same encoder"):
        make_trainer(1).fit(make_model(), make_windows(encoder=other))


def test_a_run_folder_and_the_encoder_in_it_are_the_same_encoder(
    make_model, make_windows, make_trainer, encoder_folder
):
    run_folder = encoder_folder.removesuffix("/encoder")
    make_trainer(1).fit(make_model(), make_windows(encoder=run_folder))


def test_a_missing_encoder_is_one_clear_line(make_stream, make_trainer, tmp_path):
    model = WorldModelTraining(str(tmp_path / "nowhere"), dim=24, depth=1, num_heads=2)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        make_trainer(1).fit(model, make_stream())
