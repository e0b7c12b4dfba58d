import math

import pytest
import torch

from jepa.masking.growing_blocks import covering_sizes, draw_stretches


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_stretches_are_roots_of_the_aspect_ratio_and_uniform_in_its_logarithm():
    ratios = draw_stretches(20_000, (0.25, 4.0), generator=generator()) ** 2
    assert ratios.min() > 0.25
    assert ratios.max() < 4.0
    quartiles = ratios.quantile(torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([0.5, 1.0, 2.0]), rtol=0.05, atol=0)


def test_one_aspect_ratio_is_drawn_exactly():
    stretches = draw_stretches(3, (4.0, 4.0), generator=generator())
    torch.testing.assert_close(stretches, torch.full((3,), 2.0))


def test_sizes_by_hand():
    centers = torch.tensor([0.5, 2.5]).view(2, 1, 1)  # the third place of the first row
    sizes = covering_sizes(centers, torch.ones(1), (2, 4), generator=generator())
    torch.testing.assert_close(
        sizes, torch.tensor([[2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 1.0, 1.0]]), atol=1.1e-4, rtol=0
    )


def test_a_stretched_block_reaches_what_is_above_first():
    centers = torch.full((2, 1, 1), 4.5)
    sizes = covering_sizes(centers, torch.tensor([2.0]), (9, 9), generator=generator())
    sizes = sizes.unflatten(1, (9, 9))[0]
    assert sizes[0, 4].item() == pytest.approx(2, abs=2e-4)  # 4 up, over 2
    assert sizes[4, 0].item() == pytest.approx(8, abs=2e-4)  # 4 left, times 2


def test_the_nearest_block_counts():
    centers = torch.rand(2, 3, 4, generator=generator()) * 8
    stretches = torch.tensor([0.7, 1.0, 1.4])
    together = covering_sizes(centers, stretches, (8, 8), generator=generator())
    alone = [
        covering_sizes(centers[:, :, [block]], stretches, (8, 8), generator=generator())
        for block in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(alone).amin(0), atol=1e-4, rtol=0)


def test_ties_fall_at_random():
    centers = torch.full((2, 500, 1), 1.0)  # between the four places
    sizes = covering_sizes(centers, torch.ones(500), (2, 2), generator=generator())
    first = sizes.argmin(1).bincount(minlength=4) / 500
    assert (first - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 500)
