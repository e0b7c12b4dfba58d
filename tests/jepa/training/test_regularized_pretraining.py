import os

import pytest
import torch

from data_pipelines.datamodules import ClipDataModule
from jepa.checkpoints.native import load_encoder
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, take_tokens
from jepa.objectives import LatentMSE, SIGReg, TemporalSimilarity, VICReg
from jepa.training.regularized_pretraining import RegularizedPretraining

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")

GRID = (2, 4, 4)


def make_model(*, embedding_dim=16, output_dim=16, **options):
    torch.manual_seed(0)
    settings = {"learning_rate": 3e-3, "monitor_every_n_steps": 10}
    return RegularizedPretraining(
        VideoEncoder(
            image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
        ),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2, output_dim=output_dim),
        masks=[MultiBlock(num_blocks=4, target_fraction=0.5)],
        embedding_dim=embedding_dim,
        **settings | options,
    )


def make_data(shards, **options):
    settings = {"image_size": 32, "batch_size": 8, "steps_per_epoch": 100, "seed": 3}
    return ClipDataModule(shards, 4, **settings | options)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def clips_differ_by(model, data):
    """Standard deviation over clips of the embeddings, mean over places and dimensions."""
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        return model.target(batch.video).std(0).mean()


@pytest.mark.parametrize(
    "regularizer",
    [
        pytest.param(SIGReg(weight=1.0), id="SIGReg"),
        pytest.param(VICReg(), id="VICReg", marks=LONG),
    ],
)
def test_regularizers_keep_clips_apart_without_a_teacher(
    regularizer, clip_shards, make_trainer, tmp_path
):
    model, trainer = make_model(regularizers=[regularizer]), make_trainer(100)
    start, data = weights(model.encoder), make_data(clip_shards)
    trainer.fit(model, data)
    assert sum(trainer.losses[-10:]) < 0.85 * sum(trainer.losses[:10])
    assert (weights(model.encoder) - start).norm() > 0.05 * start.norm()
    assert clips_differ_by(model, data) > 0.3
    assert not model.collapse.warned
    assert torch.equal(weights(load_encoder(tmp_path / "encoder")), weights(model.encoder))


@LONG
def test_without_a_regularizer_all_clips_become_the_same_and_the_monitor_says_so(
    clip_shards, make_trainer
):
    model, data = make_model(regularizers=[]), make_data(clip_shards)
    before = clips_differ_by(model, data)
    trainer = make_trainer(100)
    trainer.fit(model, data)
    assert trainer.losses[-1] < 0.05 * trainer.losses[0]  # what a good loss curve is worth
    assert clips_differ_by(model, data) < 0.1 * before
    assert model.collapse.warned


def test_the_loss_is_the_prediction_and_the_regularizer_at_each_place_over_clips():
    model = make_model(regularizers=[VICReg()], prediction_weight=3.0, num_places=32)
    model.__dict__["_trainer"] = None
    video = torch.randn(6, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    predicted, target = model.predict(video, masks), model.target(video)
    terms = model.compare(predicted, target, masks, grid=GRID)
    hidden = take_tokens(target, masks[0].target_ids)
    prediction = LatentMSE(stop_gradient=False)(predicted[0], hidden).total
    at_places = [VICReg()(target[:, place], step=0).total for place in range(32)]
    torch.testing.assert_close(terms.total, 3 * prediction + torch.stack(at_places).mean())
    assert set(terms.parts) == {"prediction", "variance", "covariance"}


def test_gradient_flows_into_both_sides_of_the_prediction():
    model, video = make_model(regularizers=[]), torch.randn(2, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    target = model.target(video)
    target.retain_grad()
    model.compare(model.predict(video, masks), target, masks, grid=GRID).total.backward()
    asked = torch.zeros(2, 32, dtype=torch.bool).scatter(1, masks[0].target_ids, True)
    reached = target.grad.abs().sum(-1) > 0
    assert torch.equal(reached, asked)


def test_evaluation_is_of_the_prediction_alone_so_one_clip_is_enough():
    model, video = make_model(regularizers=[VICReg()]).eval(), torch.randn(1, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    terms = model.compare(model.predict(video, masks), model.target(video), masks, grid=GRID)
    assert set(terms.parts) == {"prediction"}


def test_all_places_have_their_turn():
    model = make_model(num_places=5)
    assert model.regularized_places(32, device=torch.device("cpu")).tolist() == [0, 6, 12, 18, 24]

    class Later(RegularizedPretraining):
        global_step = 0

    later, seen = make_model(num_places=5), set()
    later.__class__ = Later
    for Later.global_step in range(6):
        seen |= set(later.regularized_places(32, device=torch.device("cpu")).tolist())
    assert len(seen) == 5 * 6


def test_embeddings_vary_by_one_at_the_start_however_alike_the_clips_are():
    model = make_model()
    still = torch.randn(1, 3, 4, 32, 32)
    video = still + 0.01 * torch.randn(6, 3, 4, 32, 32)
    assert model.target(video).std(0, correction=0).mean() < 0.1
    model.calibrate(video)
    embeddings = model.target(video)
    assert embeddings.std(0, correction=0).mean().item() == pytest.approx(1.0, abs=1e-3)
    assert embeddings.mean().abs() < 1e-3


def test_a_projector_is_scaled_once_and_not_again_after_a_checkpoint(clip_shards, make_trainer):
    model, data = make_model(learning_rate=1e-9), make_data(clip_shards)
    before = model.projector.weight.clone()
    make_trainer(1).fit(model, data)
    scaled = model.projector.weight.clone()
    assert not torch.allclose(scaled, before, rtol=0.05)
    make_trainer(1).fit(model, data)  # as after `--from` or `--ckpt_path`: the flag is in the state
    torch.testing.assert_close(model.projector.weight, scaled)
    assert "is_calibrated" in model.state_dict()


def test_the_optimizer_has_the_projector_and_no_parameter_twice():
    model = make_model()
    trained = [p for module in model.trained_modules() for p in module.parameters()]
    assert len({id(p) for p in trained}) == len(trained) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_dim": 24}, "puts out 24 channels, what it predicts has 16: set predictor"),
        (
            {"regularizers": [TemporalSimilarity()]},
            "TemporalSimilarity compares neighbouring times",
        ),
        ({"num_places": 0}, "num_places must be at least 1"),
        ({"prediction_weight": 0.0}, "prediction_weight above 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)
