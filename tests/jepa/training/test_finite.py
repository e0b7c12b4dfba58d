import pytest
import torch

from jepa.training.finite import refuse_non_finite


def test_a_finite_loss_passes():
    refuse_non_finite(torch.tensor(0.5), step=3, keys=("a",))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_names_step_and_samples(value):
    with pytest.raises(ValueError, match=r"the loss is -?(nan|inf) at step 7 \(samples a, b"):
        refuse_non_finite(torch.tensor(value), step=7, keys=("a", "b"))
