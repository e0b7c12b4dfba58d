"""What is special to the GRU; what all dynamics share is in test_base.py."""

import pytest
import torch

from jepa.models.dynamics import GRU
from tests.jepa.models.dynamics.test_base import make_windows


def make(*, grid=(1, 1), latent_dim=10, **options):
    torch.manual_seed(0)
    dynamics = GRU(**({"dim": 24} | options))
    dynamics.build(latent_dim=latent_dim, action_dim=2, state_dim=4, grid=grid, output="residual")
    return dynamics.eval()


def test_the_memory_is_one_vector_a_layer_however_long_the_past():
    dynamics, windows = make(depth=2), make_windows(grid=(1, 1))
    for past in (1, 6):
        assert dynamics.remember(*(part[:, :past] for part in windows)).shape == (3, 2, 24)


def test_layers_are_those_of_torch():
    dynamics, x, memory = make(depth=2), torch.randn(3, 5, 24), torch.randn(3, 2, 24)
    theirs = torch.nn.GRU(24, 24, num_layers=2, batch_first=True)
    for index, layer in enumerate(dynamics.layers):
        for name, linear in (("ih", layer.gates), ("hh", layer.recurrent)):
            getattr(theirs, f"weight_{name}_l{index}").data = linear.weight.data
            getattr(theirs, f"bias_{name}_l{index}").data = linear.bias.data
    expected, expected_memory = theirs(x, memory.transpose(0, 1).contiguous())
    after = []
    for index, layer in enumerate(dynamics.layers):
        x, last = layer(x, memory[:, index])
        after.append(last)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(after), expected_memory, atol=1e-5, rtol=1e-4)


def test_several_tokens_are_told_apart():
    dynamics, (tokens, states, actions) = make(grid=(2, 3)), make_windows()
    predicted = dynamics(tokens, states, actions).tokens - tokens
    assert not torch.allclose(predicted[:, :, 0], predicted[:, :, 1], atol=1e-3)


def test_frames_of_too_many_numbers_are_refused():
    with pytest.raises(ValueError, match=r"256 tokens of 1408 .* 360448 numbers, at most 65536"):
        make(grid=(16, 16), latent_dim=1408)
