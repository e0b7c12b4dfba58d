import math

import pytest
import torch

from jepa.evaluation.health.eigenspectrum import alpha_req, eigenspectrum, lidar
from jepa.training.collapse import effective_rank


def rows_with_spectrum(variances, *, num_rows=400):
    """Centred rows whose covariance has exactly these eigenvalues, up to a common factor."""
    variances = torch.as_tensor(variances, dtype=torch.float64)
    noise = torch.randn(num_rows, len(variances), dtype=torch.float64)
    rows, _ = torch.linalg.qr(noise - noise.mean(0))
    rotation, _ = torch.linalg.qr(torch.randn(len(variances), len(variances), dtype=torch.float64))
    return (rows * variances.sqrt() @ rotation).float()


def test_the_spectrum_is_that_of_the_covariance_with_sum_one():
    features = torch.randn(60, 5) * torch.tensor([3.0, 1.0, 2.0, 0.5, 0.1]) + 7.0
    expected = torch.linalg.eigvalsh(torch.cov(features.double().T)).flip(0)
    expected = (expected / expected.sum()).float()
    torch.testing.assert_close(eigenspectrum(features), expected, atol=1e-5, rtol=1e-4)


def test_what_does_not_vary_has_a_spectrum_of_zeros():
    assert eigenspectrum(torch.full((9, 3), 2.0)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_of_a_power_law(alpha):
    spectrum = torch.arange(1, 65, dtype=torch.float64) ** -alpha
    assert alpha_req(spectrum).item() == pytest.approx(alpha, abs=1e-9)
    rows = rows_with_spectrum(spectrum)
    assert alpha_req(eigenspectrum(rows)).item() == pytest.approx(alpha, abs=0.01)


def test_alpha_is_the_slope_of_a_weighted_line_through_the_logarithms():
    spectrum = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    index = torch.arange(1.0, 5.0, dtype=torch.float64)
    inputs = torch.stack((index.log(), torch.ones(4, dtype=torch.float64)), dim=1)
    root = (1 / index).sqrt()
    line = torch.linalg.lstsq(inputs * root[:, None], (spectrum.log() * root)[:, None]).solution
    assert alpha_req(spectrum).item() == pytest.approx(-line[0].item())


def test_alpha_of_too_few_directions_is_no_number():
    assert math.isnan(alpha_req(torch.tensor([0.9, 0.1, 1e-12])))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_effective_rank_of_a_matrix_of_known_rank(rank):
    variances = [1.0] * rank + [0.0] * (12 - rank)
    assert effective_rank(rows_with_spectrum(variances)).item() == pytest.approx(rank, abs=0.02)


def views_of(centres, noise):
    """Views (clips, views, dim) of clips, by adding to and subtracting noise from each centre."""
    return torch.stack([centre + noise for centre in centres])


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_lidar_is_the_number_of_directions_in_which_clips_differ(rank):
    centres = rows_with_spectrum([1.0] * rank + [0.0] * (8 - rank), num_rows=50)
    noise = 0.01 * torch.cat((torch.eye(8), -torch.eye(8)))
    assert lidar(views_of(centres, noise)).item() == pytest.approx(rank, abs=0.01)


def test_lidar_does_not_count_a_direction_in_which_views_differ_much_more_than_clips():
    centres = rows_with_spectrum([1.0, 1.0, 0.0], num_rows=40)
    turned, _, _ = torch.linalg.svd(centres.T @ centres)
    loud = 20 * turned[:, 0]  # one of the two directions in which clips differ
    quiet = 1e-3 * torch.cat((torch.eye(3), -torch.eye(3)))
    noise = torch.cat((quiet + loud, quiet - loud))
    assert lidar(views_of(centres, 1e-3 * noise / 20)).item() < 2.01
    assert lidar(views_of(centres, noise)).item() == pytest.approx(1.0, abs=0.01)
    assert effective_rank(views_of(centres, noise).mean(1)).item() == pytest.approx(2.0, abs=0.01)


def test_lidar_worked_out_by_hand_without_a_shortcut():
    views = torch.randn(7, 4, 3, dtype=torch.float64)
    centres = views.mean(1)
    within = (
        sum(torch.outer(v - c, v - c) for clip, c in zip(views, centres, strict=True) for v in clip)
        / 28
    )
    between = sum(torch.outer(c - centres.mean(0), c - centres.mean(0)) for c in centres) / 7
    variance = (views - views.mean((0, 1))).square().mean()
    values, axes = torch.linalg.eigh(within + 1e-4 * variance * torch.eye(3))
    root = axes @ torch.diag(values**-0.5) @ axes.T
    share = torch.linalg.eigvalsh(root @ between @ root)
    share = share / share.sum()
    expected = math.exp(-sum(p * math.log(p) for p in share.tolist()))
    assert lidar(views).item() == pytest.approx(expected, rel=1e-6)


def test_lidar_does_not_change_with_scale():
    views = torch.randn(9, 5, 4) + 3.0
    assert lidar(views * 1e-3).item() == pytest.approx(lidar(views).item(), rel=1e-4)


def test_equal_clips_have_lidar_one():
    assert lidar(torch.ones(4, 3, 5)).item() == 1.0


def test_views_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"views must be \(clips, views, dim\).*got \(4, 1, 3\)"):
        lidar(torch.zeros(4, 1, 3))
