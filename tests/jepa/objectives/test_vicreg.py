import pytest
import torch
import torch.nn.functional as F

from jepa.objectives import VICReg

ROWS = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])  # covariance [[2, 4], [4, 8]]


def test_the_values_worked_out_by_hand():
    terms = VICReg(std_weight=2.0, cov_weight=0.5, min_std=3.0)(ROWS, step=0)
    variance = ((3 - 2**0.5) + (3 - 8**0.5)) / 2
    assert terms.parts["variance"].item() == pytest.approx(variance, abs=1e-4)
    assert terms.parts["covariance"].item() == pytest.approx((16 + 16) / 2)
    assert terms.total.item() == pytest.approx(2 * variance + 0.5 * 16, abs=1e-3)


def test_dimensions_that_vary_enough_and_apart_cost_nothing():
    rows = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert VICReg()(rows, step=0).total.item() == 0.0


def test_a_collapsed_batch_costs_the_whole_hinge():
    parts = VICReg()(torch.full((8, 16), 3.0), step=0).parts
    assert parts["variance"].item() == pytest.approx(1 - 1e-4**0.5, abs=1e-5)
    assert parts["covariance"].item() == pytest.approx(0.0, abs=1e-9)


def test_values_equal_a_reference_time_by_time():
    embeddings = torch.randn(3, 10, 5) * torch.rand(5) * 2 + 100  # a far offset loses no digits
    variance, covariance = [], []
    for rows in embeddings.double():
        variance.append(F.relu(1 - (rows.var(0) + 1e-4).sqrt()).mean())
        matrix = rows.T.cov()
        covariance.append((matrix.square().sum() - matrix.diagonal().square().sum()) / 5)
    parts = VICReg()(embeddings, step=0).parts
    expected = [torch.stack(values).mean().float() for values in (variance, covariance)]
    torch.testing.assert_close(list(parts.values()), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"min_std": 0.0}, {"eps": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="min_std and eps must be positive, got"):
        VICReg(**options)
