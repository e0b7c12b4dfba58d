import pytest
import torch
from torch import nn

from jepa.training.gradients import GradientClipping, drop_gradients, gradient_norm
from jepa.training.optimizers import adamw


def with_gradient(*values):
    """A linear layer whose weight has this gradient, and whose bias has none."""
    linear = nn.Linear(len(values), 1)
    linear.weight.grad = torch.tensor([values])
    return linear


def test_the_norm_is_that_of_all_gradients_together():
    parameters = [*with_gradient(3.0).parameters(), *with_gradient(4.0).parameters()]
    assert gradient_norm(parameters).item() == pytest.approx(5.0)


def test_without_gradients_the_norm_is_zero():
    assert gradient_norm(nn.Linear(2, 2).parameters()) == 0
    assert gradient_norm([]) == 0


def test_clipping_scales_one_part_down_to_its_norm():
    linear = with_gradient(3.0, 4.0)
    GradientClipping(max_norm=1.0).clip(linear, torch.tensor(5.0), step=0)
    assert linear.weight.grad is not None
    torch.testing.assert_close(linear.weight.grad, torch.tensor([[0.6, 0.8]]), rtol=1e-5, atol=0)


def test_a_small_gradient_and_one_before_the_first_step_stay():
    for clipping, step in ((GradientClipping(10.0), 0), (GradientClipping(1.0, first_step=3), 2)):
        linear = with_gradient(3.0, 4.0)
        clipping.clip(linear, torch.tensor(5.0), step=step)
        assert linear.weight.grad is not None
        assert linear.weight.grad.tolist() == [[3.0, 4.0]]


def test_without_gradients_adamw_touches_neither_weights_nor_moments():
    linear = nn.Linear(2, 2)
    optimizer = adamw([linear], learning_rate=0.1, weight_decay=0.5)
    linear(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    weights = [parameter.detach().clone() for parameter in linear.parameters()]
    moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
    linear(torch.ones(1, 2)).sum().backward()
    drop_gradients(linear.parameters())
    optimizer.step()
    assert all(map(torch.equal, weights, linear.parameters()))
    assert all(map(torch.equal, moments, [s["exp_avg"] for s in optimizer.state.values()]))
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


@pytest.mark.parametrize(("norm", "first"), [(0.0, 0), (float("nan"), 0), (1.0, -1)])
def test_a_norm_that_clips_everything_is_refused(norm, first):
    with pytest.raises(ValueError, match="max_norm must be positive and first_step at least 0"):
        GradientClipping(norm, first)
