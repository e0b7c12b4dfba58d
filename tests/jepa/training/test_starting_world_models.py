"""A run that starts from a world model: fine-tuning."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from data_pipelines.datamodules import TrajectoryDataModule
from jepa.checkpoints.native import load_encoder, load_world_model, save_encoder
from jepa.models.dynamics import GRU
from jepa.models.latents import PooledTokens, SlowFeatures
from jepa.training.joint_training import JointTraining
from jepa.training.starting_world_models import take_world_model
from jepa.training.world_model_training import WorldModelTraining

SLOW = {"num_features": 4, "num_components": 8}


@pytest.fixture
def data(trajectory_shards):
    def make(**options):
        settings = {"image_size": 32, "batch_size": 8, "steps_per_epoch": 4}
        return TrajectoryDataModule(trajectory_shards, 5, **(settings | options))

    return make


@pytest.fixture
def frozen(encoder_folder):
    """Dynamics on a frozen encoder."""

    def make(*, encoder=encoder_folder, seed=0, **options):
        torch.manual_seed(seed)
        settings = {"latents": SlowFeatures(**SLOW), "dynamics": GRU(dim=16, depth=1)}
        return WorldModelTraining(encoder, learning_rate=1e-3, **(settings | options))

    return make


@pytest.fixture
def joint(encoder_folder):
    """Encoder and dynamics together."""

    def make(*, seed=0, **options):
        torch.manual_seed(seed)
        settings = {"latents": PooledTokens(dim=8), "dynamics": GRU(dim=16, depth=1)}
        return JointTraining(load_encoder(encoder_folder).train(), **(settings | options))

    return make


@pytest.fixture(params=["frozen", "joint"])
def make(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def earlier(make, data, make_trainer, tmp_path):
    """The folder of a run that left a world model, whose scaling is none of these data's."""
    make_trainer(3).fit(make(), data())
    world = load_world_model(tmp_path)
    world.config["scaling"]["action_mean"] = [3.0] * len(world.action_mean)
    return world.save_pretrained(tmp_path / "earlier")


def without_rate(model):
    model.learning_rate = 1e-30
    return model


def test_it_begins_with_the_weights_and_the_scaling_of_the_world_model(
    make, earlier, data, make_trainer, tmp_path
):
    """Seen to fail without `take_world_model`: the weights are those of the seed."""
    model = make(seed=1)
    model.start_from(earlier)
    make_trainer(1).fit(without_rate(model), data())
    theirs, ours = load_world_model(earlier), load_world_model(tmp_path)
    kept = {k: v for k, v in theirs.state_dict().items() if "standardize" not in k}
    assert len(kept) > 10
    for name, value in kept.items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=0, rtol=0, msg=name)
    assert ours.config["scaling"] == theirs.config["scaling"]


def test_it_learns_on_and_a_resumed_run_keeps_the_scaling(
    make, earlier, data, make_trainer, tmp_path
):
    """Seen to fail without the scaling in the checkpoint: it becomes that of the data."""
    model = make(seed=1)
    model.start_from(earlier)
    trainer = make_trainer(2)
    trainer.fit(model, data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = make(seed=2)  # --from is history
    make_trainer(4).fit(resumed, data(), ckpt_path=str(tmp_path / "last.ckpt"))
    theirs, ours = load_world_model(earlier), load_world_model(tmp_path)
    assert ours.config["scaling"] == theirs.config["scaling"]
    assert ours.action_mean.unique().tolist() == [3.0]
    changed = ours.dynamics.state_dict()
    assert any(not torch.equal(v, changed[k]) for k, v in theirs.dynamics.state_dict().items())


@pytest.mark.parametrize(
    ("other", "windows", "expected"),
    [
        ("dim", {}, r"has world_model\.dynamics\.dim=16, the config .*dim=24: the config has to"),
        ("uses_state", {}, r"has world_model\.uses_state=(True|False), the config"),
        ("", {"frame_stride": 2, "actions": "concatenate"}, "has 2 action columns, the data 4"),
        (
            "",
            {"frame_stride": 2, "actions": "repeat", "action_reduction": "mean"},
            r"has actions\.frames_per_second=[\d.]+, the data frames_per_second=",
        ),
    ],
)
def test_another_architecture_and_other_actions_are_refused(
    make, earlier, data, make_trainer, other, windows, expected
):
    uses_state = load_world_model(earlier).config["uses_state"]
    options = {
        "dim": {"dynamics": GRU(dim=24, depth=1)},
        "uses_state": {"uses_state": not uses_state},
    }
    model = make(**options.get(other, {}))
    model.start_from(earlier)
    with pytest.raises(ValueError, match=expected):
        make_trainer(1).fit(model, data(**windows))


def test_clips_of_another_size_are_another_model(joint, data, make_trainer, tmp_path):
    """Seen to fail without `is_start`: the way out was to do what was just done."""
    make_trainer(1).fit(joint(), data())
    theirs = load_world_model(tmp_path)
    ours = deepcopy(theirs)
    ours.encoder.config["image_size"] = 64
    with pytest.raises(ValueError, match=r"image_size=32, .*=64: the config has to describe"):
        take_world_model(ours, theirs, source="it", trains_encoder=True)


def test_weights_are_compared_as_exactly_as_the_run_has_them(frozen, data, make_trainer, tmp_path):
    """Seen to fail with a comparison of all bits: under bf16-true every encoder was another one."""
    make_trainer(1).fit(frozen(), data())
    theirs = load_world_model(tmp_path)
    ours = deepcopy(theirs).bfloat16()
    take_world_model(ours, theirs, source="it", trains_encoder=False)


def test_a_frozen_encoder_must_be_the_one_that_it_sees_through(
    frozen, data, make_trainer, encoder_folder, tmp_path
):
    make_trainer(1).fit(frozen(), data())
    other = load_encoder(encoder_folder)
    with torch.no_grad():
        other.patch_embed.bias.add_(1)
    model = frozen(encoder=str(save_encoder(other, tmp_path / "other")))
    model.start_from(tmp_path)
    with pytest.raises(ValueError, match="sees through another encoder than the config's: 1 of"):
        make_trainer(1).fit(model, data())


@pytest.mark.parametrize("options", [{}, {"with_optimizer": True}])
def test_what_is_no_world_model_is_refused_at_once(frozen, encoder_folder, tmp_path, options):
    path = tmp_path / "last.ckpt" if not options else tmp_path
    with pytest.raises(ValueError, match="--from takes the folder of a world model here"):
        frozen().start_from(path, **options)
    with pytest.raises((ValueError, FileNotFoundError), match="no LatentWorldModel in"):
        frozen().start_from(Path(encoder_folder))
