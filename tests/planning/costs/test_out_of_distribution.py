"""The guard: nothing within the threshold, more the further out."""

import pytest
import torch

from planning.costs import NearestLatents, OutOfDistribution
from planning.types import Latent


@pytest.fixture
def bank():
    """Latents of one number at 0, whose threshold is 2."""
    return NearestLatents(2.0, False, torch.zeros(3, 1), 1)


def rollout_at(values):
    return Latent(torch.tensor(values)[..., None, None])


@pytest.mark.parametrize(
    ("reduction", "expected"), [("mean", [0, 1]), ("max", [0, 3]), ("last", [0, 0])]
)
def test_excess_over_the_threshold_by_hand(bank, reduction, expected):
    imagined = rollout_at([[0.0, 1.0, 2.0], [0.0, -8.0, 1.0]])  # 8 is 3 thresholds beyond
    assert OutOfDistribution(bank, reduction)(imagined, None).tolist() == expected


def test_a_gradient_flows_only_from_beyond_the_threshold(bank):
    values = torch.tensor([[1.0, 8.0]], requires_grad=True)
    OutOfDistribution(bank)(Latent(values[..., None, None]), None).sum().backward()
    assert values.grad.tolist() == [[0, 0.25]]  # half of the steps, in thresholds of 2


def test_a_latent_that_is_nan_is_not_known(bank):
    assert OutOfDistribution(bank)(rollout_at([[0.0, float("nan")]]), None).isnan().all()


def test_another_reduction_is_refused(bank):
    with pytest.raises(ValueError, match="reduction must be 'mean', 'max' or 'last', got 'sum'"):
        OutOfDistribution(bank, "sum")


def test_a_bank_of_another_world_is_refused(bank):
    with pytest.raises(ValueError, match="holds latents of 1 features, these have 6; build it"):
        OutOfDistribution(bank)(Latent(torch.zeros(1, 2, 2, 3)), None)
