import math

import pytest
import torch

from jepa.objectives import ContrastivePrediction
from jepa.objectives.contrastive_prediction import contrasted, squared_distances


def test_the_value_worked_out_by_hand():
    predicted = torch.tensor([[[[0.0]]], [[[2.0]]]])  # (batch 2, time 1, token 1, dim 1)
    target = torch.tensor([[[[1.0]]], [[[3.0]]]])
    terms = ContrastivePrediction(temperature=2.0, shrink=0.1)(predicted, target)
    # Squared distances over 2: row 0 has 0.5 and 4.5, row 1 has 0.5 and 0.5.
    by_hand = (math.log(1 + math.exp(-4.0)) + math.log(2)) / 2
    assert terms.parts["prediction"].item() == pytest.approx(by_hand, rel=1e-6)
    assert terms.total.item() == pytest.approx(by_hand + 0.1 * 5.0, rel=1e-6)


def test_equal_latents_cost_the_logarithm_of_their_number():
    latents = torch.ones(4, 3, 1, 8)
    terms = ContrastivePrediction(shrink=0.0)(latents, latents)
    assert terms.total.item() == pytest.approx(math.log(12), rel=1e-6)


def test_predictions_that_hit_cost_nothing_if_the_others_are_far():
    latents = 10 * torch.eye(6).view(2, 3, 1, 6)
    terms = ContrastivePrediction(shrink=0.0)(latents, latents)
    assert terms.total.item() < 1e-6
    assert terms.parts["told_apart"] == 1.0


def test_tokens_of_one_latent_are_one_vector():
    predicted, target = torch.randn(4, 3, 2, 5), torch.randn(4, 3, 2, 5)
    one_token = [x.reshape(4, 3, 1, 10) for x in (predicted, target)]
    objective = ContrastivePrediction()
    assert objective(predicted, target).total == objective(*one_token).total


def test_gradient_flows_into_the_target_too_and_pushes_equal_latents_apart():
    objective = ContrastivePrediction()
    target = torch.randn(5, 1, 1, 3, requires_grad=True)
    objective(target.detach() + 0.1, target).total.backward()
    assert objective.target_needs_gradient
    assert target.grad is not None and target.grad.abs().sum() > 0


def test_distances_are_those_of_torch_and_have_a_gradient_at_zero():
    rows, targets = torch.randn(7, 4), torch.randn(5, 4)
    torch.testing.assert_close(squared_distances(rows, targets), torch.cdist(rows, targets) ** 2)
    same = torch.randn(3, 4, requires_grad=True)
    contrasted(same, same, temperature=1.0)[0].backward()
    assert same.grad is not None and same.grad.isfinite().all()


def test_half_precision_is_compared_in_float32():
    predicted, target = torch.randn(4, 2, 1, 8), torch.randn(4, 2, 1, 8)
    loss = ContrastivePrediction()(predicted.bfloat16(), target.bfloat16()).total
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be positive"),
        ({"shrink": -1.0}, "weights must be finite and at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ContrastivePrediction(**settings)


def test_what_cannot_be_contrasted_is_refused():
    objective = ContrastivePrediction()
    with pytest.raises(ValueError, match="needs at least 2 targets"):
        objective(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))
    with pytest.raises(ValueError, match="must have the same shape"):
        objective(torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 5))
