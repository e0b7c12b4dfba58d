"""Masks of small clips, and what they hide."""

import pytest
import torch

GRID = (4, 6, 8)


@pytest.fixture
def draw():
    """Draws a mask on the CPU."""

    def draw(sampler, *, batch=5, grid=GRID, seed=0):
        return sampler.sample(batch, grid, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def hidden_places():
    """Says where tokens are targets: (batch, time, height, width) bool."""

    def hidden_places(mask, grid=GRID):
        return places_of(mask.target_ids, grid)

    return hidden_places


@pytest.fixture
def shown_places():
    """Says where tokens are context: (batch, time, height, width) bool."""

    def shown_places(mask, grid=GRID):
        return places_of(mask.context_ids, grid)

    return shown_places


def places_of(ids, grid):
    is_there = torch.zeros(len(ids), grid[0] * grid[1] * grid[2], dtype=torch.bool)
    return is_there.scatter(1, ids, True).unflatten(1, grid)
