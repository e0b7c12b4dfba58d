import logging

import pytest
import torch

from jepa.checkpoints.native import save_encoder, save_model
from jepa.models import JepaModel, MaskedLatentPredictor, VideoEncoder
from jepa.training.schedules import LinearCooldown, WarmupConstant
from tests.jepa.training.rank_fits import JoinedBatches, encoder_and_predictor, latent_l1


@pytest.fixture
def earlier(make_trainer, tmp_path):
    """A short run, its model and its checkpoint."""
    model, trainer = latent_l1(ema_momentum=(0.5, 0.5)), make_trainer(3)
    trainer.fit(model, JoinedBatches())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return model, tmp_path / "last.ckpt"


def equal(one, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def larger_clips(**options):
    """The same model, made for clips of twice the size."""
    encoder, predictor = encoder_and_predictor()
    encoder = VideoEncoder(**encoder.config | {"image_size": 64, "clip_length_frames": 8})
    return type(latent_l1())(encoder, predictor, **options)


def test_a_cooldown_of_larger_clips_starts_with_all_weights_and_at_step_zero(earlier, make_trainer):
    model, path = earlier
    cooldown = larger_clips(schedule=LinearCooldown(), learning_rate=1e-3)
    assert not equal(model, cooldown)
    cooldown.start_from(path)
    assert equal(model, cooldown)
    assert not equal(cooldown.encoder, cooldown.target_encoder.encoder)  # each has its own
    trainer = make_trainer(2)
    trainer.fit(cooldown, JoinedBatches())
    assert trainer.global_step == 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
    assert {int(state["step"]) for state in trainer.optimizers[0].state.values()} == {2}


def test_the_moments_of_the_optimizer_come_along_if_asked_but_not_its_rates(earlier, make_trainer):
    _, path = earlier
    cooldown = latent_l1(
        schedule=WarmupConstant(warmup_steps=0),
        learning_rate=1e-9,
        weight_decay=0.0,
        weight_decay_schedule=None,
    )
    cooldown.start_from(path, with_optimizer=True)
    trainer = make_trainer(1)
    trainer.fit(cooldown, JoinedBatches())
    (group, _) = trainer.optimizers[0].param_groups
    assert {int(state["step"]) for state in trainer.optimizers[0].state.values()} == {4}
    assert (group["lr"], group["weight_decay"]) == (1e-9, 0.0)


def test_a_model_folder_brings_encoder_target_and_predictor(earlier, tmp_path):
    trained, _ = earlier  # its run left encoder/ in tmp_path
    model = latent_l1()
    model.start_from(tmp_path)
    assert equal(model.encoder, trained.target_encoder.encoder)
    assert equal(model.target_encoder.encoder, trained.target_encoder.encoder)
    assert equal(model.predictor, trained.predictor)
    with pytest.raises(ValueError, match="is a model without its optimizer"):
        model.start_from(tmp_path, with_optimizer=True)


def test_a_folder_without_a_predictor_says_that_it_is_untrained(tmp_path, caplog):
    save_encoder(encoder_and_predictor()[0], tmp_path / "encoder")
    with caplog.at_level(logging.WARNING):
        latent_l1().start_from(tmp_path / "encoder")
    assert "has no weights for MaskedLatentPredictor: untrained" in caplog.text


@pytest.mark.parametrize("kind", ["checkpoint", "folder"])
def test_another_architecture_is_refused_by_its_first_difference(kind, earlier, tmp_path):
    _, path = earlier
    encoder, predictor = encoder_and_predictor()
    deeper = VideoEncoder(**encoder.config | {"depth": 3})
    source = path if kind == "checkpoint" else tmp_path
    with pytest.raises(ValueError, match=r"has encoder\.depth=2, the config encoder\.depth=3"):
        type(latent_l1())(deeper, predictor).start_from(source)
    other = MaskedLatentPredictor(encoder_dim=48, dim=48, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"has predictor\.dim=24, the config predictor\.dim=48"):
        type(latent_l1())(encoder, other).start_from(source)


def test_an_older_checkpoint_is_refused_by_the_weights_that_differ(earlier):
    _, path = earlier
    content = torch.load(path, weights_only=True)
    del content["architecture"]
    del content["state_dict"]["encoder.patch_embed.bias"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"1 missing \['encoder\.patch_embed\.bias'\], 0 unexp"):
        latent_l1().start_from(path)
    content["state_dict"]["encoder.patch_embed.bias"] = torch.zeros(3)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"encoder\.patch_embed\.bias is \(3,\), not \(48,\)"):
        latent_l1().start_from(path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        latent_l1().start_from(tmp_path / "nothing.ckpt")
    torch.save({"encoder": {}}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"is not a training checkpoint: .*--from takes the \.ckpt"
    ):
        latent_l1().start_from(tmp_path / "other.pt")


def test_resuming_with_another_size_points_to_from(earlier, make_trainer):
    _, path = earlier
    with pytest.raises(ValueError, match=r"encoder\.image_size=32, the .*--from starts a new run"):
        make_trainer(5).fit(larger_clips(), JoinedBatches(), ckpt_path=path)


def test_another_world_than_pretrainings_is_refused(tmp_path):
    model = JepaModel(encoder_and_predictor()[0])
    assert save_model(model, tmp_path / "elsewhere").is_dir()
    with pytest.raises(FileNotFoundError, match="no JepaModel in"):
        latent_l1().start_from(tmp_path)
