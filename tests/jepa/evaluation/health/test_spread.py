import math

import pytest
import torch

from jepa.evaluation.health.spread import alignment, uniformity, variance_shares


def test_shares_of_tokens_that_vary_with_their_clip_only():
    tokens = torch.randn(6, 1, 4).expand(-1, 5, -1)
    shares = variance_shares(tokens)
    assert shares.clips.item() == pytest.approx(1.0)
    assert shares.places.item() == pytest.approx(0.0, abs=1e-9)


def test_shares_of_tokens_that_vary_with_their_place_only():
    shares = variance_shares(torch.randn(1, 5, 4).expand(6, -1, -1))
    assert shares.clips.item() == pytest.approx(0.0, abs=1e-9)
    assert shares.places.item() == pytest.approx(1.0)


def test_shares_worked_out_by_hand():
    tokens = torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]])  # clips 0 and 1, places 0 and 1
    shares = variance_shares(tokens)  # variance 5, mean square 14; over clips 4, over places 1
    assert shares.clips.item() == pytest.approx(4 / 5)
    assert shares.places.item() == pytest.approx(1 / 5)
    assert shares.relative_std.item() == pytest.approx(math.sqrt(5 / 14))


def test_equal_tokens_have_no_spread_whatever_their_length():
    shares = variance_shares(torch.full((3, 4, 5), 0.1))
    assert shares.relative_std.item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match=r"must be \(clips, places, dim\), got \(3, 4\)"):
        variance_shares(torch.zeros(3, 4))


def test_alignment_worked_out_by_hand():
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert alignment(first, first * 5).item() == pytest.approx(0.0, abs=1e-9)
    assert alignment(first, -first).item() == pytest.approx(4.0)
    turned = torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # a quarter turn, and none
    assert alignment(first, turned).item() == pytest.approx(1.0)


def test_uniformity_worked_out_by_hand():
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)  # squares 2 and 4 of distances
    assert uniformity(3 * square).item() == pytest.approx(expected)
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0.0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0], [-1.0]])).item() == pytest.approx(-8.0)
    assert math.isnan(uniformity(torch.ones(1, 3)))


def test_uniformity_is_the_mean_over_pairs_of_a_slow_loop():
    rows = torch.randn(12, 4, dtype=torch.float64)
    unit = rows / rows.norm(dim=1, keepdim=True)
    terms = [
        math.exp(-2 * float((unit[i] - unit[j]).square().sum()))
        for i in range(12)
        for j in range(i)
    ]
    assert uniformity(rows).item() == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-5)
