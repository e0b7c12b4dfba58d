import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as reference

from jepa.evaluation.anticipation.focal_loss import sigmoid_focal_loss


def random_rows(num_rows=7, num_classes=11, scale=4.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, num_classes, (num_rows,), generator=generator)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_values_and_gradients_are_those_of_torchvision(alpha, gamma):
    logits, labels = random_rows()
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    one_hot = F.one_hot(labels, logits.shape[1]).double()
    loss = sigmoid_focal_loss(ours, labels, alpha=alpha, gamma=gamma)
    expected = reference(theirs, one_hot, alpha=alpha, gamma=gamma, reduction="sum")
    loss.backward()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_an_undecided_head_costs_what_the_paper_says():
    loss = sigmoid_focal_loss(torch.zeros(1, 3), torch.tensor([1]))
    by_hand = (0.25 + 2 * 0.75) * 0.5**2 * math.log(2)
    assert float(loss) == pytest.approx(by_hand, rel=1e-6)


def test_without_focus_it_is_half_the_cross_entropy_of_every_class():
    logits, labels = random_rows()
    one_hot = F.one_hot(labels, logits.shape[1]).double()
    entropy = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum")
    loss = sigmoid_focal_loss(logits, labels, alpha=0.5, gamma=0.0)
    assert float(loss) == pytest.approx(float(entropy) / 2)


def test_it_is_finite_for_certain_mistakes_and_nothing_for_certain_truths():
    logits = torch.tensor([[200.0, -200.0]])
    assert float(sigmoid_focal_loss(logits, torch.tensor([0]))) == 0.0
    assert float(sigmoid_focal_loss(logits, torch.tensor([1]))) == pytest.approx(200.0)
