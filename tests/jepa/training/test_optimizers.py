import math

import pytest
import torch
from torch import nn

from jepa.training.optimizers import adamw


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
    with pytest.raises(ValueError, match=r"learning_rate must be positive.* got"):
        adamw([nn.Linear(1, 1)], learning_rate=learning_rate, weight_decay=0.0)


def test_a_model_that_is_all_frozen_is_refused():
    with pytest.raises(ValueError, match="no parameter is trainable"):
        adamw([nn.Linear(1, 1).requires_grad_(False)], learning_rate=0.1, weight_decay=0.0)


def test_it_is_fused_unless_a_loss_scaler_has_to_unscale_before_it():
    fused, plain = (
        adamw([nn.Linear(1, 1)], learning_rate=0.1, weight_decay=0.0, gradients_are_scaled=scaled)
        for scaled in (False, True)
    )
    assert (fused.defaults["fused"], plain.defaults["fused"]) == (True, None)
