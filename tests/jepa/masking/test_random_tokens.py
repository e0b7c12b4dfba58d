import math

import pytest
import torch

from jepa.masking import RandomTokens


@pytest.mark.parametrize(("fraction", "hidden"), [(0.9, 173), (0.5, 96), (0.001, 1), (0.999, 191)])
def test_exactly_the_wanted_share_is_hidden_and_the_rest_shown(draw, fraction, hidden):
    mask = draw(RandomTokens(target_fraction=fraction))
    assert mask.target_ids.shape == (5, hidden)
    assert mask.context_ids.shape == (5, 192 - hidden)


def test_a_seed_hides_what_it_always_hid():
    generator = torch.Generator().manual_seed(7)
    mask = RandomTokens(target_fraction=0.6).sample(2, (2, 2, 2), generator=generator)
    assert mask.context_ids.tolist() == [[2, 3, 7], [1, 2, 3]]
    assert mask.target_ids.tolist() == [[0, 1, 4, 5, 6], [0, 4, 5, 6, 7]]


def test_every_token_is_hidden_equally_often_and_neighbours_are_independent(draw, hidden_places):
    grid = (4, 3, 4)
    mask = draw(RandomTokens(target_fraction=0.5), batch=4000, grid=grid)
    is_hidden = hidden_places(mask, grid).flatten(1).float()  # (batch, tokens)
    assert (is_hidden.mean(0) - 0.5).abs().max() < 4.5 * math.sqrt(0.25 / 4000)
    correlation = torch.corrcoef(is_hidden.T).fill_diagonal_(-1 / 47)  # the count is fixed
    assert (correlation + 1 / 47).abs().max() < 5 / math.sqrt(4000)


def test_one_place_of_several_times_is_enough(draw):
    mask = draw(RandomTokens(target_fraction=0.5), grid=(4, 1, 1))
    assert mask.target_ids.shape == mask.context_ids.shape == (5, 2)


def test_impossible_masks_are_refused(draw):
    with pytest.raises(ValueError, match=r"target_fraction must be in \(0, 1\), got 1.5"):
        RandomTokens(target_fraction=1.5)
    with pytest.raises(ValueError, match=r"at least 2 tokens, got grid \(1, 1, 1\)"):
        draw(RandomTokens(), grid=(1, 1, 1))
