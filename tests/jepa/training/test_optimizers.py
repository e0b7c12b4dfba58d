import math

import pytest
import torch
from torch import nn

from jepa.training.optimizers import adamw, warmup_cosine


def test_matrices_decay_and_biases_norms_and_frozen_parameters_do_not():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    linear, norm = nn.Linear(3, 2), nn.LayerNorm(2)
    decayed, rest = adamw([linear, norm, frozen], learning_rate=0.1, weight_decay=0.3).param_groups
    assert [id(p) for p in decayed["params"]] == [id(linear.weight)]
    assert {id(p) for p in rest["params"]} == {id(linear.bias), id(norm.weight), id(norm.bias)}
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    assert (decayed["lr"], rest["lr"]) == (0.1, 0.1)


def test_decay_alone_shrinks_a_matrix_by_rate_times_decay():
    linear = nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in (linear.weight, linear.bias)]
    optimizer = adamw([linear], learning_rate=0.1, weight_decay=0.5)
    for parameter in linear.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(linear.weight.detach(), before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(linear.bias, before[1])


@pytest.mark.parametrize("learning_rate", [0.0, -1.0, math.nan])
def test_a_learning_rate_that_learns_nothing_is_refused(learning_rate):
    with pytest.raises(ValueError, match="learning_rate must be positive, got"):
        adamw([nn.Linear(1, 1)], learning_rate=learning_rate, weight_decay=0.0)


def test_a_model_that_is_all_frozen_is_refused():
    with pytest.raises(ValueError, match="no parameter is trainable"):
        adamw([nn.Linear(1, 1).requires_grad_(False)], learning_rate=0.1, weight_decay=0.0)


def rates(steps, **options):
    """The learning rate of every step."""
    optimizer = adamw([nn.Linear(1, 1)], learning_rate=2.0, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, total_steps=steps, **options)
    assert schedule["interval"] == "step"
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    return found


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    found = rates(8, warmup_fraction=0.5, final_fraction=0.1)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    share = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
    assert found[4:] == pytest.approx([2.0 * (0.1 + 0.9 * s) for s in share])
    assert found[-1] == pytest.approx(0.2)  # where training ends


def test_without_warm_up_it_starts_at_the_peak():
    assert rates(4, warmup_fraction=0.0, final_fraction=0.0) == pytest.approx(
        [2.0, 2.0 * (1 + 2**-0.5) / 2, 1.0, 2.0 * (1 - 2**-0.5) / 2, 0.0]
    )


@pytest.mark.parametrize(("warmup", "final"), [(1.0, 0.0), (-0.1, 0.0), (0.1, 1.5)])
def test_fractions_out_of_range_are_refused(warmup, final):
    with pytest.raises(ValueError, match=r"warmup_fraction must be in \[0, 1\)"):
        rates(4, warmup_fraction=warmup, final_fraction=final)


def test_a_run_without_an_end_is_refused():
    optimizer = adamw([nn.Linear(1, 1)], learning_rate=1.0, weight_decay=0.0)
    with pytest.raises(ValueError, match=r"until the run ends; set trainer\.max_steps"):
        warmup_cosine(optimizer, total_steps=math.inf, warmup_fraction=0.1, final_fraction=0.0)
