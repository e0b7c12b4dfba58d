"""What the tests of costs share: rollouts to score, and gradients by finite differences."""

import pytest
import torch

from planning.types import Latent


@pytest.fixture
def rollouts():
    """Makes rollouts (samples, horizon, ...) of what is given; tokens of ones where there are none.

    States are (samples, horizon, state_dim), disagreement (samples, horizon), as nested lists.
    """

    def make(*, tokens=None, states=None, disagreement=None, dtype=torch.float32):
        parts = [
            None if part is None else torch.as_tensor(part, dtype=dtype)
            for part in (tokens, states, disagreement)
        ]
        known = next(part for part in parts if part is not None)
        if parts[0] is None:
            parts[0] = torch.ones(*known.shape[:2], 1, 1, dtype=dtype)
        return Latent(*parts)

    return make


@pytest.fixture
def assert_gradient_is_that_of_finite_differences():
    """Compares autograd with central differences, in double precision, at random points."""

    def check(function, *shape, num_points=3):
        generator = torch.Generator().manual_seed(0)
        for _ in range(num_points):
            point = torch.randn(*shape, generator=generator, dtype=torch.float64)
            assert torch.autograd.gradcheck(function, point.requires_grad_(), eps=1e-6, atol=1e-6)

    return check
