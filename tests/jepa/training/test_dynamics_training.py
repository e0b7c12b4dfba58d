"""What trainings of dynamics share, seen through the one with a frozen encoder."""

import pytest
import torch

from data_pipelines.datamodules import TrajectoryDataModule
from jepa.checkpoints.native import load_world_model
from jepa.models.latents import PooledTokens
from jepa.training.world_model_training import WorldModelTraining
from tests.jepa.training.rank_fits import make_trainer


@pytest.fixture
def fit(encoder_folder, trajectory_shards, tmp_path):
    """Fits for one step; returns the model and a batch."""

    def run(*, frames=3, **options):
        torch.manual_seed(0)
        model = WorldModelTraining(encoder_folder, dim=24, depth=1, num_heads=2, **options)
        data = TrajectoryDataModule(trajectory_shards, frames, image_size=32, batch_size=4)
        make_trainer(tmp_path, max_steps=1).fit(model, data)
        return model, next(iter(data.train_dataloader()))

    return run


def test_the_loss_is_the_weighted_sum_of_both_ways_and_of_the_states(fit):
    model, batch = fit(teacher_forcing_weight=0.25, rollout_weight=2.0, state_weight=0.5)
    latents = model.encode(batch)
    forced, forced_state = model.teacher_forcing(latents, batch)
    imagined, imagined_state = model.rollout(latents, batch)
    loss = model.loss(latents, batch)
    expected = 0.25 * (forced + 0.5 * forced_state) + 2 * (imagined + 0.5 * imagined_state)
    torch.testing.assert_close(loss.total, expected)
    assert torch.equal(loss.parts["teacher_forcing"], forced)
    assert torch.equal(loss.parts["rollout"], imagined)


def test_what_has_no_weight_is_not_computed(fit, monkeypatch):
    def never(self, latents, batch):
        raise AssertionError("computed")

    monkeypatch.setattr(WorldModelTraining, "rollout", never)
    model, batch = fit(frames=2, rollout_weight=0)  # windows too short for a rollout of 2
    assert model.loss(model.encode(batch), batch).parts.keys() == {"teacher_forcing", "state"}
    assert model.error_names == ("teacher_forcing", "copy")
    monkeypatch.undo()
    monkeypatch.setattr(WorldModelTraining, "teacher_forcing", never)
    model, batch = fit(teacher_forcing_weight=0)
    assert model.loss(model.encode(batch), batch).parts.keys() == {"rollout", "state"}


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (float("nan"), 1)])
def test_weights_that_leave_nothing_to_learn_are_refused(weights, encoder_folder):
    forcing, rollout = weights
    with pytest.raises(ValueError, match="must be at least 0, and one of them positive"):
        WorldModelTraining(encoder_folder, teacher_forcing_weight=forcing, rollout_weight=rollout)


def test_a_frozen_recipe_takes_no_latents_that_are_to_be_learned(encoder_folder):
    with pytest.raises(ValueError, match=r"PooledTokens are learned .*or JointTraining"):
        WorldModelTraining(encoder_folder, latents=PooledTokens())


def test_the_frozen_encoder_stays_frozen_and_the_run_leaves_its_model(fit, tmp_path):
    model, _ = fit()
    assert not any(parameter.requires_grad for parameter in model.world.encoder.parameters())
    left = load_world_model(tmp_path).state_dict()
    assert all(torch.equal(left[name], value) for name, value in model.world.state_dict().items())


def test_a_checkpoint_of_other_latents_is_refused_by_name(encoder_folder):
    ours, theirs = (WorldModelTraining(encoder_folder, dim=dim) for dim in (24, 48))
    with pytest.raises(ValueError, match=r"has dynamics.dim=48, the config dynamics.dim=24"):
        ours.refuse_to_resume({"architecture": theirs.architecture})
    ours.refuse_to_resume({"architecture": {}})  # checkpoints of earlier versions do not say
