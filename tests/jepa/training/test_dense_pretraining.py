import pytest
import torch

from data_pipelines.datamodules import ClipDataModule
from jepa.checkpoints.native import load_encoder
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels, take_tokens
from jepa.objectives import DenseL1
from jepa.training.dense_pretraining import DensePretraining

GRID = (2, 4, 4)


def make_model(*, predicts_context=True, num_levels=2, **options):
    torch.manual_seed(0)
    settings = {
        "masks": [MultiBlock(num_blocks=2, target_fraction=0.5)],
        "objective": DenseL1(num_levels=2, warmup_start_step=0, warmup_end_step=0),
        "learning_rate": 2e-3,
        "ema_momentum": (0.9, 0.99),
    }
    return DensePretraining(
        VideoEncoder(
            image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=3, num_heads=4,
            levels=(0, 2),
        ),
        MaskedLatentPredictor(
            encoder_dim=48, dim=24, depth=1, num_heads=2, num_levels=num_levels,
            predicts_context=predicts_context,
        ),
        **settings | options,
    )  # fmt: skip


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_a_tiny_run_learns_hidden_and_visible_places(clip_shards, make_trainer, tmp_path):
    model, trainer = make_model(monitor_every_n_steps=20), make_trainer(100)
    start = weights(model.target_encoder)
    data = ClipDataModule(clip_shards, 4, image_size=32, batch_size=8, steps_per_epoch=100)
    trainer.fit(model, data)
    assert sum(trainer.losses[-10:]) < 0.85 * sum(trainer.losses[:10])
    assert (weights(model.target_encoder) - start).norm() > 0.05 * start.norm()
    logged = trainer.callback_metrics
    total = logged["loss/prediction"] + 0.5 * logged["loss/context"]
    torch.testing.assert_close(logged["loss/total"], total)
    assert not model.collapse.warned
    video = normalize_pixels(torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8))
    left = load_encoder(tmp_path / "encoder")
    torch.testing.assert_close(left.levels(video), model.target_encoder.levels(video))
    assert torch.equal(weights(left), weights(model.target_encoder))


def test_targets_are_all_levels_of_the_target_encoder_without_gradient():
    model, video = make_model(), torch.randn(2, 3, 4, 32, 32)
    target = model.target(video)
    assert target.shape == (2, 32, 2 * 48)
    assert not target.requires_grad
    torch.testing.assert_close(target[..., 48:], model.target_encoder(video))


def test_the_loss_is_hidden_and_visible_places_of_the_mean_mask():
    masks = [MultiBlock(num_blocks=2), MultiBlock(target_fraction=0.5)]
    model, video = make_model(masks=masks), torch.randn(2, 3, 4, 32, 32)
    drawn = model.sample_masks(video, step=0)
    target, predicted = model.target(video), model.predict(video, drawn)
    expected = 0
    for mask, one in zip(drawn, predicted, strict=True):
        ids = {"context_ids": mask.context_ids, "target_ids": mask.target_ids}
        context = model.encoder.levels(video, token_ids=mask.context_ids)
        hidden, visible = model.predictor.predict_all(context, **ids, grid=GRID)
        torch.testing.assert_close(one.targets, hidden)
        torch.testing.assert_close(one.context, visible)
        seen = take_tokens(target, mask.context_ids)
        expected += model.objective(hidden, take_tokens(target, mask.target_ids)).total / 2
        expected += model.objective.context(visible, seen, **ids, grid=GRID, step=0).total / 2
    torch.testing.assert_close(model.compare(predicted, target, drawn, grid=GRID).total, expected)


def test_every_parameter_gets_a_gradient_also_before_the_context_counts():
    late = DenseL1(num_levels=2, warmup_start_step=100, warmup_end_step=200)
    model, video = make_model(objective=late), torch.randn(2, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    predicted, target = model.predict(video, masks), model.target(video)
    model.compare(predicted, target, masks, grid=GRID).total.backward()
    for module in (model.encoder, model.predictor):
        assert all(parameter.grad is not None for parameter in module.parameters())
    assert model.predictor.context_proj.weight.grad.abs().max() == 0


def test_a_predictor_of_targets_only_is_refused():
    with pytest.raises(ValueError, match="needs a predictor with predicts_context=true"):
        make_model(predicts_context=False)


def test_a_predictor_of_another_number_of_levels_is_refused():
    with pytest.raises(ValueError, match=r"= 48 must be the encoder's 2 levels x 48"):
        make_model(num_levels=1)
    with pytest.raises(ValueError, match=r"num_levels=4 must be that of the encoder's levels, 2"):
        make_model(objective=DenseL1())


def test_validation_counts_the_context_whatever_the_step():
    late = DenseL1(num_levels=2, warmup_start_step=100, warmup_end_step=200)
    model, video = make_model(objective=late), torch.randn(2, 3, 4, 32, 32)
    masks = model.sample_masks(video, step=0)
    predicted, target = model.predict(video, masks), model.target(video)
    early = model.compare(predicted, target, masks, grid=GRID)
    evaluated = model.eval().compare(predicted, target, masks, grid=GRID)
    torch.testing.assert_close(early.total, early.parts["prediction"])
    parts = evaluated.parts
    torch.testing.assert_close(evaluated.total, parts["prediction"] + 0.5 * parts["context"])
