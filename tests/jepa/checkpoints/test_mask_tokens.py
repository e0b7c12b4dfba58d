import pytest
import torch

from jepa.checkpoints.mask_tokens import choose_mask_token


def tokens_with_norms(*norms):
    return torch.tensor(norms)[:, None] * torch.tensor([[0.6, 0.8]])


def test_the_first_token_is_used_if_it_is_trained_even_if_others_are_larger():
    index, lines = choose_mask_token(tokens_with_norms(1.0, 0.0, 5.0))
    assert index == 0
    assert lines == ["mask tokens: 2 of 3 look trained (0, 2); using 0. Norms: 1 0 5"]


def test_of_released_v_jepa_2_the_only_trained_token_is_named():
    index, lines = choose_mask_token(tokens_with_norms(1.234, *[0.0] * 9))
    assert index == 0
    assert lines == [
        "mask tokens: 1 of 10 look trained (0); using 0. Norms: 1.23 0 0 0 0 0 0 0 0 0"
    ]


def test_without_a_trained_first_token_the_largest_of_the_trained_is_used():
    index, lines = choose_mask_token(tokens_with_norms(0.0, 2.0, 3.0, 1.0))
    assert index == 2
    assert "3 of 4 look trained (1, 2, 3); using 2" in lines[0]


@pytest.mark.parametrize(("first", "index"), [(0.9e-6, 1), (1.1e-6, 0)])
def test_a_token_below_a_millionth_of_the_largest_is_not_trained(first, index):
    assert choose_mask_token(tokens_with_norms(first, 1.0))[0] == index


def test_tokens_that_are_all_small_are_compared_with_each_other():
    assert choose_mask_token(tokens_with_norms(0.0, 1e-30))[0] == 1


def test_if_all_are_zero_the_first_is_used_and_the_line_says_that_none_is_trained():
    index, lines = choose_mask_token(torch.zeros(3, 8))
    assert index == 0
    assert "none of 3 looks trained" in lines[0]
    assert "using 0. Norms: 0 0 0" in lines[0]


@pytest.mark.parametrize("shape", [(8,), (3, 1, 1, 8), (0, 8)])
def test_another_layout_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(mask tokens, dim\), got"):
        choose_mask_token(torch.zeros(shape))
