import math

import pytest
import torch

from jepa.masking import Tube


def test_places_are_hidden_through_all_of_time(draw, hidden_places):
    is_hidden = hidden_places(draw(Tube()))
    assert torch.equal(is_hidden, is_hidden[:, :1].expand_as(is_hidden))


@pytest.mark.parametrize(("fraction", "hidden"), [(0.9, 43), (0.5, 24), (0.001, 1), (0.999, 47)])
def test_exactly_the_wanted_share_is_hidden_and_the_rest_shown(draw, fraction, hidden):
    mask = draw(Tube(target_fraction=fraction))
    assert mask.target_ids.shape == (5, 4 * hidden)
    assert mask.context_ids.shape == (5, 4 * (48 - hidden))


def test_a_seed_hides_what_it_always_hid():
    generator = torch.Generator().manual_seed(7)
    mask = Tube(target_fraction=0.6).sample(2, (2, 2, 3), generator=generator)
    assert mask.context_ids.tolist() == [[2, 3, 8, 9], [3, 4, 9, 10]]
    assert mask.target_ids.tolist() == [[0, 1, 4, 5, 6, 7, 10, 11], [0, 1, 2, 5, 6, 7, 8, 11]]


def test_every_place_is_hidden_equally_often_and_neighbours_are_independent(draw, hidden_places):
    is_hidden = hidden_places(draw(Tube(target_fraction=0.5), batch=4000))[:, 0].flatten(1)
    assert (is_hidden.float().mean(0) - 0.5).abs().max() < 4.5 * math.sqrt(0.25 / 4000)
    correlation = torch.corrcoef(is_hidden.T.float()).fill_diagonal_(-1 / 47)  # the count is fixed
    assert (correlation + 1 / 47).abs().max() < 5 / math.sqrt(4000)


def test_impossible_masks_are_refused(draw):
    with pytest.raises(ValueError, match=r"target_fraction must be in \(0, 1\), got 0"):
        Tube(target_fraction=0)
    with pytest.raises(ValueError, match=r"at least 2 places a frame, got grid \(4, 1, 1\)"):
        draw(Tube(), grid=(4, 1, 1))
