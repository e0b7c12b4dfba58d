import pytest
import torch
from torch import nn

from jepa.models import linear
from jepa.models.eager_cpu import multiplies_bfloat16
from jepa.models.linear import MLP, Linear

needs_bfloat16 = pytest.mark.skipif(
    not multiplies_bfloat16(), reason="this processor does not multiply bfloat16"
)


@pytest.fixture(autouse=True)
def everything_goes_the_fast_way(monkeypatch):
    monkeypatch.setattr(linear, "onednn_is_faster_in_float32", lambda: True)
    monkeypatch.setattr(linear, "LEAST_WORK", 0)


def twins(kind):
    """The layer, and torch's own with the same weights."""
    torch.manual_seed(0)
    ours = Linear(24, 40) if kind == "linear" else MLP(24, 40)
    theirs = (
        nn.Linear(24, 40)
        if kind == "linear"
        else nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24))
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer, x, *, dtype=None):
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        output = layer(x)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()
    return [output, x.grad, *[parameter.grad for parameter in layer.parameters()]]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("shape", [(5, 24), (2, 5, 24), (2, 3, 5, 24)])
def test_outputs_and_gradients_are_those_of_torch(kind, shape):
    ours, theirs = twins(kind)
    x = torch.randn(shape)
    for found, expected in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@needs_bfloat16
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_under_autocast_too_and_gradients_come_in_the_type_of_the_weights(kind):
    ours, theirs = twins(kind)
    x = torch.randn(2, 5, 24)
    found, expected = (gradients(layer, x, dtype=torch.bfloat16) for layer in (ours, theirs))
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.02)


@needs_bfloat16
def test_a_layer_in_bfloat16_gives_bfloat16():
    ours, theirs = (layer.bfloat16() for layer in twins("mlp"))
    x = torch.randn(2, 5, 24).bfloat16()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=0.02, rtol=0.02)


def test_the_fast_way_is_taken(monkeypatch):
    calls = []
    multiply = linear._multiply
    monkeypatch.setattr(linear, "_multiply", lambda *a, **k: calls.append(a) or multiply(*a, **k))
    gradients(Linear(24, 40), torch.randn(2, 24))
    assert len(calls) == 3  # the output, the gradient of the input, that of the weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_left_to_torch(dtype):
    ours, theirs = (layer.to(dtype) for layer in twins("linear"))
    x = torch.randn(2, 24).to(dtype)
    assert torch.equal(ours(x), theirs(x))


def test_little_work_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_WORK", 10_000)
    layer = Linear(24, 40)
    small, large = layer(torch.randn(2, 24)), layer(torch.randn(20, 24))
    assert [type(y.grad_fn).__name__ for y in (small, large)] == [
        "AddmmBackward0",
        "_LinearBackward",
    ]


def test_weights_that_are_frozen_get_no_gradient_and_let_it_through():
    ours, _ = twins("mlp")
    ours.requires_grad_(False)
    x = torch.randn(2, 24, requires_grad=True)
    ours(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_an_mlp_with_a_layer_of_somebody_elses_is_that_sequence():
    mlp = MLP(24, 40)
    mlp[1] = nn.ReLU()
    x = torch.randn(2, 24)
    torch.testing.assert_close(mlp(x), mlp[2](mlp[0](x).relu()))
    mlp[0] = nn.Identity()
    mlp[2] = nn.Linear(24, 7)
    assert mlp(x).shape == (2, 7)


def test_nobody_gets_a_wrong_second_derivative():
    x = torch.randn(2, 24, requires_grad=True)
    (gradient,) = torch.autograd.grad(MLP(24, 40)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_an_empty_batch_passes():
    assert Linear(24, 40)(torch.empty(0, 24)).shape == (0, 40)
