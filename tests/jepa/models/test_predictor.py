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
    assert predictor.mask_token.grad.abs().max() > 0
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
