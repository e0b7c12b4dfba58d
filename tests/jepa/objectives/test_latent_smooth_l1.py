import pytest
import torch

from jepa.objectives import LatentL1, LatentSmoothL1

TARGET = torch.tensor([[[1.0, 3.0]]])  # layer-normed: [-1, 1]


def test_the_value_worked_out_by_hand():
    predicted = torch.tensor([[[-0.5, 4.0]]])  # errors: 0.5 and 3
    loss = LatentSmoothL1()(predicted, TARGET)
    assert loss.total.item() == pytest.approx((0.5**2 / 2 + 3 - 0.5) / 2, abs=1e-4)
    assert loss.parts["prediction"] == loss.total


def test_a_small_beta_is_the_latent_l1():
    predicted, target = torch.randn(2, 4, 5, 8)
    smooth = LatentSmoothL1(beta=1e-6)(predicted, target).total
    torch.testing.assert_close(smooth, LatentL1()(predicted, target).total)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_beta_that_is_not_positive_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta must be positive, got {beta}; .* LatentL1"):
        LatentSmoothL1(beta=beta)
