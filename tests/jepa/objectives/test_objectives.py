"""The contract of every objective in the folder: a new file is tested from its first day."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import jepa.objectives
from jepa.objectives import Objective

MODULES = [name for _, name, _ in pkgutil.iter_modules(jepa.objectives.__path__) if name != "base"]


def objective_classes():
    for name in MODULES:
        module = importlib.import_module(f"jepa.objectives.{name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Objective) and member.__module__ == module.__name__:
                yield member


@pytest.fixture(params=list(objective_classes()), ids=lambda member: member.__name__)
def objective(request):
    return request.param()


@pytest.fixture
def latents():
    return torch.randn(2, 4, 5, 16, requires_grad=True).unbind(0)


def test_every_file_holds_one_objective():
    assert MODULES != []
    modules = [member.__module__.rpartition(".")[2] for member in objective_classes()]
    assert sorted(modules) == sorted(MODULES)


def test_total_and_parts_are_finite_scalars(objective, latents):
    terms = objective(*latents)
    assert terms.parts != {}
    for value in (terms.total, *terms.parts.values()):
        assert value.shape == ()
        assert value.isfinite()


def test_gradients_reach_the_prediction_and_never_the_target(objective):
    predicted, target = (torch.randn(4, 5, 16, requires_grad=True) for _ in range(2))
    objective(predicted, target).total.backward()
    assert (predicted.grad.abs().amax(-1) > 0).all()
    assert target.grad is None


def test_descending_the_gradient_lowers_the_loss(objective, latents):
    predicted, target = (part.detach() for part in latents)
    predicted.requires_grad_()
    before = objective(predicted, target).total
    (gradient,) = torch.autograd.grad(before, predicted)
    after = objective(predicted - 0.1 * gradient / gradient.norm(), target).total
    assert after < before


def test_the_order_of_clips_does_not_matter(objective, latents):
    flipped = objective(*(part.flip(0) for part in latents)).total
    torch.testing.assert_close(flipped, objective(*latents).total)


def test_latents_that_cannot_be_compared_one_by_one_are_refused(objective):
    with pytest.raises(ValueError, match=r"same shape, got \(4, 5, 16\) and \(4, 1, 16\)"):
        objective(torch.zeros(4, 5, 16), torch.zeros(4, 1, 16))
