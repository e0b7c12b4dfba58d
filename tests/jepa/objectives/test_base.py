import torch

from jepa.objectives import LossTerms, mean_terms


def test_mean_terms_is_the_mean_of_the_total_and_of_each_part():
    one = LossTerms(torch.tensor(1.0), {"prediction": torch.tensor(0.5), "rest": torch.tensor(4.0)})
    two = LossTerms(torch.tensor(3.0), {"prediction": torch.tensor(1.5), "rest": torch.tensor(0.0)})
    mean = mean_terms([one, two])
    assert mean.total == 2.0
    assert mean.parts == {"prediction": torch.tensor(1.0), "rest": torch.tensor(2.0)}


def test_gradients_flow_through_the_mean():
    values = torch.tensor([1.0, 5.0], requires_grad=True)
    mean_terms([LossTerms(value, {}) for value in values]).total.backward()
    assert values.grad.tolist() == [0.5, 0.5]
