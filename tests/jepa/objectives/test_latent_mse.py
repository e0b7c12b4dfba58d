import pytest
import torch

from jepa.objectives import LatentMSE


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_value_worked_out_by_hand(stop_gradient):
    predicted, target = torch.tensor([[[0.0, 4.0]]]), torch.tensor([[[1.0, 1.0]]])
    loss = LatentMSE(stop_gradient=stop_gradient)(predicted, target)
    assert loss.total.item() == (1 + 9) / 2
    assert loss.parts["prediction"] == loss.total


def test_without_a_stop_prediction_and_target_are_drawn_to_each_other():
    predicted, target = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    objective = LatentMSE(stop_gradient=False)
    assert objective.target_needs_gradient
    objective(predicted, target).total.backward()
    torch.testing.assert_close(target.grad, -predicted.grad)


def test_with_a_stop_no_gradient_is_needed():
    assert not LatentMSE().target_needs_gradient
