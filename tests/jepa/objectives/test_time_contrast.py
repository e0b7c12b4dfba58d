import math

import pytest
import torch

from jepa.objectives import TimeContrast


def with_identity(dim: int, **settings) -> TimeContrast:
    regularizer = TimeContrast(dim=dim, width=dim, **settings)
    with torch.no_grad():
        regularizer.slow.weight.copy_(torch.eye(dim))
        regularizer.slow.bias.zero_()
    return regularizer


def test_the_value_worked_out_by_hand():
    first, last = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    middle = torch.full((2, 1), 3.0)  # is not contrasted, its size counts
    embeddings = torch.stack([first, middle, last])  # (time 3, batch 2, dim 1)
    terms = with_identity(1, weight=3.0, shrink=0.5)(embeddings, step=0)
    # Squared distances: first 0 to lasts 0, 4; first 1 to lasts 1, 1; and the other way round.
    ends = (math.log(1 + math.exp(-4)) + math.log(2)) / 2
    beginnings = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    contrast = (ends + beginnings) / 2
    assert terms.parts["time_contrast"].item() == pytest.approx(contrast, rel=1e-5)
    size = (0.5 + 9.0 + 2.0) / 3
    assert terms.total.item() == pytest.approx(3 * (contrast + 0.5 * size), rel=1e-5)


def test_what_stays_is_learned_and_what_moves_is_not():
    """Embeddings hold a number of the episode and one that is drawn anew at every frame."""
    torch.manual_seed(0)
    regularizer = TimeContrast(dim=2, width=2)
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=0.05)
    for _ in range(200):
        stays, moves = torch.randn(1, 64, 1).expand(2, -1, -1), torch.randn(2, 64, 1)
        loss = regularizer(torch.cat([stays, moves], -1), step=0).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    of_what_stays, of_what_moves = regularizer.slow.weight.norm(dim=0)
    assert of_what_stays > 10 * of_what_moves


def test_equal_embeddings_cost_the_logarithm_of_the_number_of_windows():
    terms = TimeContrast(dim=4, shrink=0.0)(torch.ones(3, 16, 4), step=0)
    assert terms.total.item() == pytest.approx(math.log(16), rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 4), (1, 8, 4), (2, 8, 5)])
def test_embeddings_without_a_later_frame_or_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"needs embeddings \(time, batch, 4\)"):
        TimeContrast(dim=4)(torch.zeros(shape), step=0)


@pytest.mark.parametrize("settings", [{"width": 0}, {"temperature": 0.0}, {"weight": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"must be (positive|finite and at least 0)"):
        TimeContrast(dim=4, **settings)
