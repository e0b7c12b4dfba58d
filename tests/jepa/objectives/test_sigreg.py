import math

import pytest
import torch

from jepa.objectives import SIGReg


def slow_statistic(values, *, num_knots, max_frequency):
    """Epps-Pulley of numbers: rows * trapezoid over [-max, max], term by term."""
    spacing = max_frequency / (num_knots - 1)
    total = 0.0
    for knot in range(-(num_knots - 1), num_knots):
        frequency = knot * spacing
        cosine = sum(math.cos(frequency * value) for value in values) / len(values)
        sine = sum(math.sin(frequency * value) for value in values) / len(values)
        gaussian = math.exp(-(frequency**2) / 2)
        error = (cosine - gaussian) ** 2 + sine**2
        is_end = abs(knot) == num_knots - 1
        total += error * gaussian * spacing * (0.5 if is_end else 1.0)
    return len(values) * total


@pytest.mark.parametrize(("num_knots", "max_frequency"), [(17, 3.0), (2, 1.0), (6, 5.0)])
def test_the_value_equals_that_of_a_loop_over_projections_and_frequencies(num_knots, max_frequency):
    regularizer = SIGReg(num_projections=5, num_knots=num_knots, max_frequency=max_frequency)
    embeddings = 0.3 + 2 * torch.randn(2, 7, 4)
    projected = embeddings @ regularizer.directions(embeddings, step=9)
    expected = [
        slow_statistic(values.tolist(), num_knots=num_knots, max_frequency=max_frequency)
        for values in projected.transpose(1, 2).flatten(0, 1)
    ]
    loss = regularizer(embeddings, step=9)
    assert loss.parts["sigreg"].item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert loss.total.item() == pytest.approx(0.09 * loss.parts["sigreg"].item())


def test_all_rows_alike_cost_what_the_integral_says():
    value = SIGReg()(torch.zeros(100, 8), step=0).parts["sigreg"].item()
    expected = slow_statistic([0.0] * 100, num_knots=17, max_frequency=3.0)
    assert value == pytest.approx(expected, rel=1e-4)
    assert value / 100 > 0.4


def test_gaussian_samples_cost_what_is_expected_whatever_their_number():
    regularizer = SIGReg(num_projections=32)
    expected = regularizer.value_of_a_gaussian()
    assert expected == pytest.approx(1.05, abs=0.01)
    for rows in (16, 256):
        samples = torch.randn(200, rows, 8)
        assert regularizer(samples, step=0).parts["sigreg"].item() == pytest.approx(
            expected, rel=0.08
        )


def test_what_is_no_standard_gaussian_costs_much_more():
    regularizer, samples = SIGReg(), torch.randn(256, 16)
    correlated = samples[:, :1].expand(-1, 16)  # each dimension is N(0, 1)
    signs = 3.0 * torch.randn(256, 16).sign()
    good = regularizer(samples, step=0).parts["sigreg"]
    for bad in (0.01 * samples, 3 * samples, samples + 2, correlated, signs):
        assert regularizer(bad, step=0).parts["sigreg"] > 5 * good


def test_descending_it_spreads_a_collapsed_batch():
    embeddings = (0.5 + 0.01 * torch.randn(128, 8)).requires_grad_()
    optimizer, regularizer = torch.optim.Adam([embeddings], lr=0.05), SIGReg(num_projections=64)
    for step in range(200):
        optimizer.zero_grad()
        regularizer(embeddings, step=step).total.backward()
        optimizer.step()
    covariance = embeddings.detach().T.cov()
    torch.testing.assert_close(covariance, torch.eye(8), atol=0.35, rtol=0)
    assert embeddings.mean(0).abs().max() < 0.2


def test_directions_are_unit_vectors_and_a_function_of_seed_and_step():
    embeddings = torch.zeros(2, 16)
    one, two = SIGReg(num_projections=9), SIGReg(num_projections=9, seed=1)
    drawn = one.directions(embeddings, step=3)
    torch.testing.assert_close(drawn.norm(dim=0), torch.ones(9))
    torch.rand(1)  # the global generator has no part in it
    assert torch.equal(drawn, SIGReg(num_projections=9).directions(embeddings, step=3))
    assert not torch.equal(drawn, one.directions(embeddings, step=4))
    assert not torch.equal(drawn, two.directions(embeddings, step=3))


def test_a_model_in_bfloat16_integrates_over_the_same_frequencies():
    embeddings = torch.randn(32, 8)
    whole, rounded = SIGReg(), SIGReg().to(torch.bfloat16)
    assert rounded(embeddings, step=0).total == whole(embeddings, step=0).total
    assert SIGReg().state_dict() == {}


@pytest.mark.parametrize(
    "options",
    [{"num_projections": 0}, {"num_knots": 1}, {"max_frequency": 0.0}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="num_projections must be at least 1, num_knots"):
        SIGReg(**options)
