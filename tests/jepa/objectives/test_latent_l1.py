import pytest
import torch

from jepa.objectives import LatentL1

TARGET = torch.tensor([[[1.0, 3.0]]])  # layer-normed: [-1, 1]
PREDICTED = torch.tensor([[[0.0, 4.0]]])  # errors: 1 and 3


@pytest.mark.parametrize(("exponent", "value"), [(1.0, 2.0), (2.0, 2.5)])
def test_the_value_worked_out_by_hand(exponent, value):
    loss = LatentL1(exponent=exponent)(PREDICTED, TARGET)  # mean of 1 and 3, or of 1 and 9 / 2
    assert loss.total.item() == pytest.approx(value, abs=1e-4)
    assert loss.parts["prediction"] == loss.total


def test_a_perfect_prediction_of_the_normed_target_costs_nothing():
    target = torch.randn(2, 3, 8)
    predicted = (target - target.mean(-1, keepdim=True)) / target.std(
        -1, keepdim=True, correction=0
    )
    assert LatentL1()(predicted, target).total.item() == pytest.approx(0.0, abs=1e-4)


def test_a_target_encoder_cannot_lower_the_loss_by_its_scale_or_offset():
    predicted, target = torch.randn(2, 2, 3, 8)
    one, two = (LatentL1()(predicted, target * scale + 3).total for scale in (1.0, 50.0))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_an_exponent_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="exponent must be positive, got 0"):
        LatentL1(exponent=0.0)
