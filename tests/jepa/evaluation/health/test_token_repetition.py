import math

import pytest
import torch

from jepa.evaluation.health.token_repetition import dead_tokens, duplicate_tokens


def test_a_place_whose_token_no_clip_changes_is_dead():
    tokens = torch.randn(10, 8, 6)
    assert dead_tokens(tokens) == 0
    tokens[:, :2] = tokens[:1, :2]
    assert dead_tokens(tokens).item() == pytest.approx(2 / 8)
    tokens[:, 2] = tokens[:1, 2] + 1e-4 * torch.randn(10, 6)  # rounding is no life
    assert dead_tokens(tokens).item() == pytest.approx(3 / 8)


def test_a_place_that_looks_the_same_in_all_clips_is_not_asked():
    tokens, pixels = torch.randn(10, 8, 6), torch.randint(0, 256, (10, 8, 3), dtype=torch.uint8)
    tokens[:, :2] = tokens[:1, :2]
    pixels[:, 0] = pixels[:1, 0]
    assert dead_tokens(tokens, pixels).item() == pytest.approx(1 / 7)
    assert math.isnan(dead_tokens(tokens, pixels[:1].expand(10, -1, -1)))


def test_constant_tokens_are_all_dead_and_all_alike():
    tokens = torch.ones(4, 6, 5)
    assert dead_tokens(tokens) == 1
    assert duplicate_tokens(tokens) == 1


def test_pairs_that_hardly_differ_are_duplicates():
    tokens = torch.randn(10, 5, 16)
    assert duplicate_tokens(tokens) == 0
    tokens[:, 1] = tokens[:, 0] + 1e-3 * torch.randn(10, 16)
    assert duplicate_tokens(tokens).item() == pytest.approx(1 / 10)  # of 5 * 4 / 2 pairs
    tokens[:5, 2] = tokens[:5, 0]  # in half of the clips, two pairs more
    assert duplicate_tokens(tokens).item() == pytest.approx((1 + 0.5 * 2) / 10)


def test_pairs_of_places_that_look_alike_are_not_asked():
    tokens, pixels = torch.randn(6, 3, 16), torch.randint(0, 256, (6, 3, 12), dtype=torch.uint8)
    tokens[:, 1] = tokens[:, 0]
    assert duplicate_tokens(tokens, pixels).item() == pytest.approx(1 / 3)
    pixels[:, 1] = pixels[:, 0]
    assert duplicate_tokens(tokens, pixels) == 0
