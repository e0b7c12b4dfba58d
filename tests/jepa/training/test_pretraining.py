import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

import jepa
from data_pipelines.batch import ClipBatch
from data_pipelines.datamodules import ClipDataModule
from jepa.checkpoints.native import load_encoder
from jepa.masking import Future, MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels, take_tokens
from jepa.objectives import DenseL1, LossTerms, Objective
from jepa.training.pretraining import Pretraining
from jepa.training.schedules import WarmupCosine

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")

ROOT = Path(__file__).resolve().parents[3]


def make_model(cls=Pretraining, **options):
    torch.manual_seed(0)
    settings = {
        "masks": [MultiBlock(num_blocks=2, target_fraction=0.5)],
        "learning_rate": 2e-3,
        "schedule": WarmupCosine(warmup_fraction=0.1),
        "ema_momentum": (0.9, 0.99),
    }
    return cls(
        VideoEncoder(
            image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
        ),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2),
        **(settings | options),
    )


@pytest.fixture
def make_data(clip_shards):
    def make(**options):
        settings = {"image_size": 32, "batch_size": 8, "steps_per_epoch": 4, "seed": 3}
        return ClipDataModule(clip_shards, 4, **(settings | options))

    return make


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_a_tiny_run_learns_and_leaves_a_healthy_encoder(make_data, make_trainer, tmp_path):
    model, trainer = make_model(monitor_every_n_steps=20), make_trainer(100)
    start = weights(model.target_encoder)
    trainer.fit(model, make_data(steps_per_epoch=100))
    # The loss falls.
    assert sum(trainer.losses[-10:]) < 0.85 * sum(trainer.losses[:10])
    # The target has moved, yet is not the online encoder.
    target, online = weights(model.target_encoder), weights(model.encoder)
    assert (target - start).norm() > 0.05 * start.norm()
    assert (target - online).norm() > 1e-4 * online.norm()
    # The representation has not collapsed.
    assert trainer.callback_metrics["collapse/effective_rank"] > 0.1 * 48
    assert not model.collapse.warned
    # The target encoder, and the predictor that was trained with it, are what the run leaves.
    video = normalize_pixels(torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8))
    loaded = load_encoder(tmp_path)
    assert torch.equal(weights(loaded), weights(model.target_encoder))
    torch.testing.assert_close(loaded(video), model.target_encoder(video))
    assert not torch.allclose(loaded(video), model.encoder(video), atol=1e-3)
    predictor = jepa.from_pretrained(tmp_path).predictor
    assert torch.equal(weights(predictor), weights(model.predictor))


def test_the_loss_is_the_mean_over_masks_of_predictions_at_hidden_places(make_data, make_trainer):
    model = make_model(masks=[MultiBlock(num_blocks=2), Future()])
    trainer = make_trainer(1)
    trainer.fit(model, make_data())
    video = torch.randn(3, 3, 4, 32, 32)
    target = model.target_encoder(video)
    masks = model.sample_masks(video, step=5)
    losses = []
    for mask in masks:
        context = model.encoder(video, token_ids=mask.context_ids)
        predicted = model.predictor(
            context, context_ids=mask.context_ids, target_ids=mask.target_ids, grid=(2, 4, 4)
        )
        losses.append(model.objective(predicted, take_tokens(target, mask.target_ids)).total)
    loss = model.compare(model.predict(video, masks), target, masks, grid=(2, 4, 4))
    torch.testing.assert_close(loss.total, (losses[0] + losses[1]) / 2)


def test_gradients_flow_into_encoder_and_predictor_and_not_into_the_target():
    model, video = make_model(), torch.randn(2, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    predicted, target = model.predict(video, masks), model.target_encoder(video)
    model.compare(predicted, target, masks, grid=(2, 4, 4)).total.backward()
    for module in (model.encoder, model.predictor):
        assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in model.target_encoder.parameters())


def test_the_target_follows_after_every_step_as_the_momentum_says(make_data, make_trainer):
    class Followed(Pretraining):
        def optimizer_step(self, *arguments):
            before = weights(self.target_encoder)
            super().optimizer_step(*arguments)
            momentum = self.target_encoder.momentum_at(self.trainer.global_step / 8)
            expected = momentum * before + (1 - momentum) * weights(self.encoder)
            torch.testing.assert_close(weights(self.target_encoder), expected)
            self.momenta = [*getattr(self, "momenta", []), momentum]

    model = make_model(Followed, ema_momentum=(0.5, 1.0))
    make_trainer(8).fit(model, make_data())
    assert model.momenta[0] == 0.5
    assert model.momenta[4] == pytest.approx(0.75)
    assert model.momenta == sorted(model.momenta)


class Remembering(Pretraining):
    """Remembers the target ids of every batch."""

    def sample_masks(self, video, *, step):
        masks = super().sample_masks(video, step=step)
        self.drawn = [*getattr(self, "drawn", []), masks[0].target_ids]
        return masks


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    accumulate, make_data, make_trainer, tmp_path
):
    def fit(folder, **options):
        saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = make_trainer(6, callbacks=[saving], accumulate_grad_batches=accumulate)
        model = make_model(Remembering)
        trainer.fit(model, make_data(), **options)
        return model, trainer

    whole, straight = fit(tmp_path / "whole")
    checkpoint = str(tmp_path / "whole" / "step=3.ckpt")  # in the middle of an epoch
    resumed, trainer = fit(tmp_path / "resumed", ckpt_path=checkpoint)
    assert trainer.global_step == straight.global_step == 6
    assert trainer.losses == straight.losses[-3 * accumulate :]
    assert len(whole.drawn) == 6 * accumulate
    assert all(map(torch.equal, resumed.drawn, whole.drawn[-3 * accumulate :]))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=1e-6, rtol=0)


def test_every_batch_has_its_own_masks_also_when_gradients_accumulate(make_data, make_trainer):
    model = make_model(Remembering)
    make_trainer(3, accumulate_grad_batches=2).fit(model, make_data())
    assert len({tuple(ids.flatten().tolist()) for ids in model.drawn}) == 6


def test_every_validation_asks_the_same_questions(make_data, make_trainer, clip_shards):
    model = make_model(Remembering)
    trainer = make_trainer(2, limit_val_batches=1)
    data = make_data(val_shards=clip_shards)
    (first,) = trainer.validate(model, data, verbose=False)
    (second,) = trainer.validate(model, data, verbose=False)
    assert first == second
    assert first["validation/loss"] > 0
    assert torch.equal(*model.drawn)


def test_the_parts_of_an_objective_are_logged_by_their_names(make_data, make_trainer):
    class TwoParts(Objective):
        def forward(self, predicted, target):
            near, small = (predicted - target).abs().mean(), predicted.square().mean()
            return LossTerms(near + small, {"near": near, "small": small})

    trainer = make_trainer(2)
    trainer.fit(make_model(objective=TwoParts()), make_data())
    logged = trainer.callback_metrics
    torch.testing.assert_close(logged["loss/near"] + logged["loss/small"], logged["loss/total"])
    assert "loss/prediction" not in logged


def test_predicting_returns_the_target_encoders_tokens_and_the_keys(make_data):
    model = make_model()
    batch = next(iter(make_data().train_dataloader()))
    result = model.predict_step(batch, 0)
    assert result["keys"] == list(batch.keys)
    tokens = model.target_encoder(normalize_pixels(batch.video))
    assert torch.equal(result["tokens"], tokens)


def test_a_trial_run_leaves_an_earlier_encoder_alone(make_data, make_trainer, tmp_path):
    make_trainer(1, fast_dev_run=True).fit(make_model(), make_data())
    assert not (tmp_path / "encoder").exists()


def test_a_predictor_for_another_encoder_is_refused():
    predictor = MaskedLatentPredictor(encoder_dim=40, dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="encoder_dim=40 must be the encoder's dim=48"):
        Pretraining(VideoEncoder(dim=48, depth=1, num_heads=4), predictor)


CONFIG = """
model:
  class_path: jepa.training.pretraining.Pretraining
  init_args:
    encoder:
      class_path: jepa.models.VideoEncoder
      init_args: {image_size: 32, clip_length_frames: 4, patch_size: 8,
                  dim: 48, depth: 1, num_heads: 4}
    predictor:
      class_path: jepa.models.MaskedLatentPredictor
      init_args: {encoder_dim: 48, dim: 24, depth: 1, num_heads: 2}
data:
  class_path: data_pipelines.datamodules.ClipDataModule
  init_args: {shards: SHARDS, clip_length_frames: 4, image_size: 32, batch_size: 4,
              steps_per_epoch: 3}
checkpoint: {every_n_train_steps: 2}
trainer: {strategy: ddp, devices: 2, accelerator: cpu, log_every_n_steps: 1,
          enable_model_summary: false}
"""


def jepa_fit(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "jepa", "fit", "--config", "tiny.yaml", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@LONG
@pytest.mark.slow
def test_two_processes_train_one_encoder_and_resume(clip_shards, tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG.replace("SHARDS", clip_shards))
    assert "2 x cpu" in jepa_fit(tmp_path, "--trainer.max_steps", "4")
    run = tmp_path / "runs" / "tiny"
    first = load_encoder(run)
    assert "4 to 6" in jepa_fit(tmp_path, "--trainer.max_steps", "6", "--ckpt_path", "last")
    assert (weights(load_encoder(run)) - weights(first)).abs().max() > 0
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    with (run / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["loss/total"]]
    assert steps == list(range(6))
    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert (trainer["devices"], trainer["max_steps"]) == (2, 6)


@pytest.mark.parametrize(
    ("encoder_options", "predictor_options", "options", "named"),
    [
        ({"levels": (0, 1)}, {}, {}, "encoder.levels"),
        ({}, {"predicts_context": True}, {}, "predictor.predicts_context"),
        ({}, {}, {"objective": DenseL1()}, "objective=DenseL1"),
    ],
)
def test_parts_that_would_learn_nothing_are_refused(
    encoder_options, predictor_options, options, named
):
    encoder = VideoEncoder(dim=48, depth=2, num_heads=4, **encoder_options)
    predictor = MaskedLatentPredictor(
        encoder_dim=48, dim=24, depth=1, num_heads=2, **predictor_options
    )
    with pytest.raises(ValueError, match=f"Pretraining has no use for {named}: leave it out"):
        Pretraining(encoder, predictor, **options)


def test_health_is_measured_once_a_step_also_where_a_step_has_several_batches(
    make_data, make_trainer, monkeypatch
):
    model = make_model(monitor_every_n_steps=1)
    trained = []
    measure = model.collapse.measure

    def remember(*arguments, is_trained):
        trained.append(is_trained)
        return measure(*arguments, is_trained=is_trained)

    monkeypatch.setattr(model.collapse, "measure", remember)
    make_trainer(3, accumulate_grad_batches=2).fit(model, make_data())
    assert trained == [False, True, True]


def make_model_of_videos_and_images():
    sizes = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8, "depth": 1}
    torch.manual_seed(0)
    return Pretraining(
        VideoEncoder(dim=48, num_heads=4, has_image_tokenizer=True, **sizes),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2, has_modalities=True),
        masks=[MultiBlock(num_blocks=2, target_fraction=0.5)],
        image_masks=[MultiBlock(num_blocks=4, target_fraction=0.25)],
    )


def test_images_are_clips_of_one_frame_with_masks_of_their_own():
    model = make_model_of_videos_and_images()
    (of_images,) = model.sample_masks(torch.zeros(2, 3, 1, 32, 32), step=0)
    (of_videos,) = model.sample_masks(torch.zeros(2, 3, 4, 32, 32), step=0)
    assert of_images.target_ids.shape == (2, 4)
    assert of_videos.target_ids.shape == (2, 16)


@pytest.mark.parametrize("frames", [1, 4])
def test_every_parameter_gets_a_gradient_from_images_and_from_videos_alike(frames, monkeypatch):
    model = make_model_of_videos_and_images()
    monkeypatch.setattr(Pretraining, "_batches_trained", 0)
    monkeypatch.setattr(Pretraining, "_log_health", lambda self, video, target: None)
    monkeypatch.setattr(model, "log", lambda *a, **k: None)
    monkeypatch.setattr(model, "log_dict", lambda *a, **k: None)
    video = torch.randint(0, 256, (2, 3, frames, 32, 32), dtype=torch.uint8)
    times = torch.zeros(2, frames)
    model.training_step(ClipBatch(video, times, ("a", "b")), 0).backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    idle = model.encoder.patch_embed if frames == 1 else model.encoder.image_embed
    used = model.encoder.image_embed if frames == 1 else model.encoder.patch_embed
    assert idle.weight.grad.abs().max() == 0  # nothing is learned from it, but DDP does not wait
    assert used.weight.grad.abs().max() > 0
