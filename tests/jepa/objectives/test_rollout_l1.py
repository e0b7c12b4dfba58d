import torch

from jepa.objectives import RolloutL1


def test_the_value_worked_out_by_hand():
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 5.0]]])
    target = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]])
    loss = RolloutL1()(predicted, target)
    assert loss.total.item() == (1 + 2 + 0 + 1) / 4
    assert loss.parts["prediction"] == loss.total


def test_latents_are_compared_as_they_are():
    target = torch.randn(2, 3, 4, 8)  # a rollout has an axis of time
    assert RolloutL1()(target, target).total == 0
    torch.testing.assert_close(RolloutL1()(target + 2, target).total, torch.tensor(2.0))


def test_gradients_go_into_the_prediction_only():
    predicted, target = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    RolloutL1()(predicted, target).total.backward()
    assert predicted.grad.tolist() == [[0.5, 0.5]]
    assert target.grad is None
