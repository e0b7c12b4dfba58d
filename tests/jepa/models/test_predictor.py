import pytest
import torch

from jepa.models import MaskedLatentPredictor

GRID = (2, 3, 4)


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    predictor = MaskedLatentPredictor(encoder_dim=20, dim=24, depth=2, num_heads=2)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return predictor


@pytest.fixture
def question():
    order = torch.stack([torch.randperm(24) for _ in range(3)])
    return {
        "context": torch.randn(3, 9, 20),
        "context_ids": order[:, :9],
        "target_ids": order[:, 9:16],
    }


def test_one_latent_of_the_encoders_width_for_every_target(predictor, question):
    assert predictor(**question, grid=GRID).shape == (3, 7, 20)


def test_the_order_of_the_context_does_not_matter(predictor, question):
    before = predictor(**question, grid=GRID)
    order = torch.randperm(9)
    for name in ("context", "context_ids"):
        question[name] = question[name][:, order]
    torch.testing.assert_close(predictor(**question, grid=GRID), before, atol=1e-5, rtol=1e-4)


def test_targets_in_another_order_give_the_same_answers_in_that_order(predictor, question):
    before = predictor(**question, grid=GRID)
    order = torch.randperm(7)
    question["target_ids"] = question["target_ids"][:, order]
    after = predictor(**question, grid=GRID)
    torch.testing.assert_close(after, before[:, order], atol=1e-5, rtol=1e-4)


def test_the_answer_depends_on_the_place_and_on_the_context(predictor, question):
    before = predictor(**question, grid=GRID)
    elsewhere = question | {"target_ids": question["target_ids"].roll(1, 1)}
    assert not torch.allclose(predictor(**elsewhere, grid=GRID)[:, 0], before[:, 0], atol=1e-2)
    other = question | {"context": torch.randn(3, 9, 20)}
    assert not torch.allclose(predictor(**other, grid=GRID), before, atol=1e-2)


def test_gradients_reach_the_mask_token_and_the_context(predictor, question):
    question["context"].requires_grad_()
    predictor(**question, grid=GRID).square().sum().backward()
    assert predictor.mask_tokens.grad.abs().max() > 0
    assert (question["context"].grad.abs().amax(-1) > 0).all()
    assert all(parameter.grad is not None for parameter in predictor.parameters())


@pytest.mark.parametrize("name", ["context", "context_ids", "target_ids"])
def test_ids_that_do_not_fit_the_context_are_refused(predictor, question, name):
    question[name] = question[name][:2]
    with pytest.raises(ValueError, match=r"context must be \(batch, context, dim\) with"):
        predictor(**question, grid=GRID)


def test_impossible_heads_are_refused_when_it_is_made():
    with pytest.raises(ValueError, match="head_dim must be even and at least 12, got 6"):
        MaskedLatentPredictor(encoder_dim=20, dim=24, depth=1, num_heads=4)


def test_each_mask_token_asks_its_own_question(question):
    torch.manual_seed(0)
    predictor = MaskedLatentPredictor(
        encoder_dim=20, dim=24, depth=1, num_heads=2, num_mask_tokens=3, mask_token_index=2
    )
    with torch.no_grad():
        predictor.mask_tokens.normal_()
    answers = [predictor(**question, grid=GRID, mask_token_index=index) for index in range(3)]
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    assert torch.equal(predictor(**question, grid=GRID), answers[2])


def test_sincos_positions_tell_places_apart_without_an_order(question):
    torch.manual_seed(0)
    predictor = MaskedLatentPredictor(
        encoder_dim=20, dim=24, depth=2, num_heads=4, positions="sincos_3d", grid=GRID
    )
    before = predictor(**question, grid=GRID)
    order = torch.randperm(7)
    question["target_ids"] = question["target_ids"][:, order]
    after = predictor(**question, grid=GRID)
    torch.testing.assert_close(after, before[:, order], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before[:, 0], before[:, 1], atol=1e-6)


@pytest.fixture
def multi_level():
    torch.manual_seed(0)
    predictor = MaskedLatentPredictor(
        encoder_dim=10, num_levels=2, dim=24, depth=1, num_heads=2, predicts_context=True,
        has_modalities=True, rope_grid=16,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return predictor


def test_levels_come_in_and_go_out_side_by_side(multi_level, question):
    targets, context = multi_level.predict_all(**question, grid=GRID)
    assert (targets.shape, context.shape) == ((3, 7, 20), (3, 9, 20))
    assert torch.equal(multi_level(**question, grid=GRID), targets)


def test_an_image_is_told_from_a_video(multi_level, question):
    video, image = (multi_level(**question, grid=GRID, modality=m) for m in ("video", "image"))
    assert not torch.allclose(video, image, atol=1e-3)


def test_a_student_may_predict_in_the_width_of_its_teacher(question):
    predictor = MaskedLatentPredictor(encoder_dim=20, output_dim=33, dim=24, depth=1, num_heads=2)
    assert predictor(**question, grid=GRID).shape == (3, 7, 33)


def test_a_predictor_of_targets_only_says_so(predictor, question):
    with pytest.raises(ValueError, match="predicts_context=False"):
        predictor.predict_all(**question, grid=GRID)


@pytest.mark.parametrize("index", [-1, 1])
def test_a_mask_token_that_is_not_there_is_refused(predictor, question, index):
    with pytest.raises(ValueError, match=f"mask_token_index must be 0 to 0, got {index}"):
        predictor(**question, grid=GRID, mask_token_index=index)


def test_context_of_another_width_is_refused(predictor, question):
    question["context"] = torch.randn(3, 9, 40)
    with pytest.raises(ValueError, match="context tokens must have 20 channels, got 40"):
        predictor(**question, grid=GRID)


def test_the_config_makes_the_same_predictor_again(multi_level):
    again = MaskedLatentPredictor(**multi_level.config)
    again.load_state_dict(multi_level.state_dict())


@pytest.mark.parametrize("name", ["context_ids", "target_ids"])
@pytest.mark.parametrize("wrong", [-1, 24])
def test_ids_that_are_no_places_are_refused(predictor, question, name, wrong):
    question[name] = question[name].clone()
    question[name][0, 1] = wrong
    with pytest.raises(ValueError, match=f"{name} must be 0 to 23, places in a grid of "):
        predictor(**question, grid=GRID)


def test_a_grid_that_is_too_small_for_the_ids_is_refused(predictor, question):
    with pytest.raises(ValueError, match=r"_ids must be 0 to 11, places in a grid of \(1, 3, 4\)"):
        predictor(**question, grid=(1, 3, 4))


@pytest.mark.parametrize("name", ["predictor", "multi_level"])
def test_another_modality_is_refused(name, question, request):
    with pytest.raises(ValueError, match="modality must be one of video, image; got 'audio'"):
        request.getfixturevalue(name)(**question, grid=GRID, modality="audio")
