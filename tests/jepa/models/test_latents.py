import math
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jepa.models.latents import (
    MAX_INPUTS,
    FrameMoments,
    PatchTokens,
    PooledTokens,
    SlowFeatures,
)


def fitted(features, *, num_features, **options):
    """Slow features of windows (batch, time, dim) of frames with a single patch."""
    latents = SlowFeatures(num_features=num_features, **options)
    latents.build((1, 1), features.shape[-1])
    moments = FrameMoments(features.shape[-1])
    moments.add(latents.flatten(features.unsqueeze(-2)))
    latents.fit(moments)
    return latents


def correlation(one, two):
    return np.corrcoef(np.asarray(one), np.asarray(two))[0, 1]


@pytest.fixture
def mixture():
    """A slow sine and five fast noises, mixed into 16 features; small beside what is constant."""
    time = torch.arange(4000)
    slow = torch.sin(2 * math.pi * time / 400)
    sources = torch.cat((slow[:, None], torch.randn(4000, 5)), dim=1)
    features = torch.randn(16) + 1e-3 * sources @ torch.randn(6, 16)
    return slow, features[None]  # (1, time, dim)


def test_slow_features_find_the_slow_source_in_a_mixture(mixture):
    slow, features = mixture
    latents = fitted(features, num_features=3, num_components=6)
    found = latents(features.unsqueeze(-2))[0, :, 0]  # (time, features)
    assert abs(correlation(found[:, 0], slow)) > 0.999
    assert abs(correlation(found[:, 1], slow)) < 0.05


def test_speeds_ascend_and_are_mean_squared_changes(mixture):
    latents = fitted(mixture[1], num_features=4, num_components=6)
    assert (latents.speed.diff() >= 0).all()
    white = latents(mixture[1].unsqueeze(-2))[0, :, 0] * latents._root_speed()
    torch.testing.assert_close(white.diff(dim=0).square().mean(0), latents.speed, rtol=0.02, atol=0)
    sine_speed = 2 * (2 * math.pi / 400) ** 2 / 2  # of a sine of unit variance
    assert latents.speed[0].item() == pytest.approx(sine_speed, rel=0.05)
    assert latents.speed[1].item() == pytest.approx(2.0, rel=0.1)  # of white noise


def test_latents_times_their_root_speed_are_white(mixture):
    latents = fitted(mixture[1], num_features=4, num_components=6)
    white = latents(mixture[1].unsqueeze(-2))[0, :, 0] * latents._root_speed()
    covariance = torch.from_numpy(np.cov(white.numpy().T)).float()
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.01, rtol=0)
    torch.testing.assert_close(white.mean(0), torch.zeros(4), atol=0.01, rtol=0)


def test_the_distance_is_euclidean_after_division_by_the_root_speed(mixture):
    latents = fitted(mixture[1], num_features=4, num_tokens=2, num_components=6)
    tokens = latents(mixture[1][:, :7].unsqueeze(-2))[0]  # (time, 2 tokens, 2)
    goal = tokens[3]
    distance = latents.distance(tokens, goal)
    assert distance.shape == (7,)
    assert distance[3] == 0
    assert (distance >= 0).all()
    difference = (tokens[0] - goal).flatten() / (latents.speed / latents.speed[0]).sqrt()
    torch.testing.assert_close(distance[0], difference.square().sum().sqrt())


def test_tokens_share_the_features(mixture):
    one = fitted(mixture[1], num_features=4, num_components=6)
    two = fitted(mixture[1], num_features=4, num_tokens=2, num_components=6)
    assert (one.grid, one.dim, two.grid, two.dim) == ((1, 1), 4, (1, 2), 2)
    frames = mixture[1].unsqueeze(-2)
    assert torch.equal(one(frames).flatten(-2), two(frames).flatten(-2))


def test_patches_are_pooled_to_block_means_of_normed_tokens():
    latents = SlowFeatures(num_features=2, pool_grid=(2, 2))
    latents.build((4, 4), 3)
    tokens = torch.randn(5, 16, 3)
    normed = F.layer_norm(tokens, (3,)).view(5, 4, 4, 3)
    blocks = [normed[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 2) for x in (0, 2)]
    torch.testing.assert_close(latents.flatten(tokens), torch.cat(blocks, dim=-1))


def test_moments_of_batches_equal_those_of_numpy():
    windows = torch.randn(6, 5, 4) @ torch.randn(4, 4) + 3
    moments = FrameMoments(4)
    for batch in windows.split(2):
        moments.add(batch)
    frames, changes = windows.flatten(0, 1).numpy(), windows.diff(dim=1).flatten(0, 1).numpy()
    np.testing.assert_allclose(moments.mean(), frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.covariance(), np.cov(frames.T, bias=True), rtol=1e-4)
    np.testing.assert_allclose(moments.change_covariance(), changes.T @ changes / 24, rtol=1e-4)
    assert (moments.num_frames, moments.num_changes) == (30, 24)


def test_changes_are_never_taken_across_two_windows():
    moments = FrameMoments(1)
    moments.add(torch.tensor([[[0.0], [1.0]], [[100.0], [101.0]]]))
    assert moments.change_covariance().item() == 1.0


# A walk in a world whose beeline is not its way.


def two_rooms():
    """Cells (row, column) of two long rooms; the wall between them has one door, in the first row.

    ......
    ..##..  and six rows more like this one
    """
    cells = [(row, column) for row in range(8) for column in range(6)]
    return [cell for cell in cells if cell[1] not in (2, 3) or cell[0] == 0]


def neighbours(cells):
    index = {cell: number for number, cell in enumerate(cells)}
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    return [
        [index[row + y, column + x] for y, x in steps if (row + y, column + x) in index]
        for row, column in cells
    ]


def path_lengths(around):
    """Steps of the shortest way between all pairs of cells."""
    lengths = np.full((len(around), len(around)), -1)
    for start in range(len(around)):
        lengths[start, start], queue = 0, deque([start])
        while queue:
            cell = queue.popleft()
            for other in around[cell]:
                if lengths[start, other] < 0:
                    lengths[start, other] = lengths[start, cell] + 1
                    queue.append(other)
    return lengths


def ranks(values):
    """Ranks, equal values sharing their mean."""
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place.ravel()]


def rank_correlation(one, two):
    return correlation(ranks(one), ranks(two))


def test_after_a_random_walk_distance_follows_the_way_and_not_the_beeline():
    cells, rng = two_rooms(), np.random.default_rng(0)
    around = neighbours(cells)
    walk = [0]
    for choice in rng.random(20_000):
        options = around[walk[-1]]
        walk.append(options[int(choice * len(options))])
    looks = torch.eye(len(cells))  # every cell looks different from every other
    latents = fitted(looks[walk][None], num_features=12, num_components=len(cells) - 1)
    places = latents(looks.unsqueeze(-2))  # (cells, tokens, dim)
    learned = torch.stack([latents.distance(places, place) for place in places]).numpy()
    lengths = path_lengths(around)
    beeline = np.linalg.norm(np.array(cells)[:, None] - np.array(cells), axis=-1)
    assert rank_correlation(learned, lengths) > 0.9
    assert rank_correlation(learned, lengths) > rank_correlation(beeline, lengths) + 0.05
    across_the_wall = cells.index((7, 1)), cells.index((7, 4))  # 3 apart, 17 steps to go
    along_a_room = cells.index((7, 0)), cells.index((0, 0))  # 7 apart, 7 steps to go
    assert learned[across_the_wall] > 1.5 * learned[along_a_room]


# What is refused.


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_collapsed_features_are_refused(noise):
    features = torch.randn(8).expand(4, 20, 8) + noise * torch.randn(4, 20, 8)
    with pytest.raises(
        ValueError, match=r"hardly vary .* it has collapsed, or all frames are alike"
    ):
        fitted(features, num_features=4, num_components=6)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 4, 8), "4 frames with 3 changes are too few for 4"), ((9, 1, 8), "with 0 changes")],
)
def test_too_few_frames_are_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        fitted(torch.randn(shape), num_features=4, num_components=6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_features": 6, "num_tokens": 4}, "num_features=6 must be a positive multiple of"),
        ({"num_features": 0}, "num_features=0 must be a positive multiple"),
        ({"num_features": 9, "num_components": 8}, "num_components=8 is smaller than num_features"),
    ],
)
def test_impossible_slow_features_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SlowFeatures(**options)


def test_an_encoder_with_too_many_or_too_few_inputs_is_refused():
    with pytest.raises(ValueError, match=f"16384 inputs, at most {MAX_INPUTS} .* pool_grid"):
        SlowFeatures().build((16, 16), 64)
    with pytest.raises(ValueError, match="num_features=32 exceeds the 16 inputs of 1 x 1"):
        SlowFeatures(pool_grid=(1, 1)).build((4, 4), 16)


def test_slow_features_built_for_another_encoder_have_to_be_fitted_again(mixture):
    latents = fitted(mixture[1], num_features=3, num_components=6)
    assert latents.is_fitted
    latents.build((1, 1), 16)
    assert not latents.is_fitted


def test_moments_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"features must be \(batch, time, 4\), got \(5, 4\)"):
        FrameMoments(4).add(torch.zeros(5, 4))


# Patch tokens.


def test_patch_tokens_are_normed_and_their_distance_is_the_mean_absolute_difference():
    latents = PatchTokens()
    latents.build((1, 2), 4)
    tokens = latents(torch.randn(3, 2, 4) * 7 + 5)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(-1, unbiased=False), torch.ones(3, 2), atol=1e-3, rtol=0)
    goal = tokens[1]
    shifted = goal + torch.tensor([[0.5], [-1.5]])  # mean absolute difference (0.5 + 1.5) / 2
    distance = latents.distance(torch.stack((goal, shifted)), goal)
    torch.testing.assert_close(distance, torch.tensor([0.0, 1.0]))
    assert (latents.grid, latents.dim, latents.is_fitted) == ((1, 2), 4, True)


# Pooled tokens.


def pooled(**options):
    latents = PooledTokens(**options)
    latents.build((2, 2), 3)
    return latents


def test_pooled_tokens_are_a_linear_map_of_the_mean_token():
    latents, tokens = pooled(dim=5, is_standardized=False), torch.randn(7, 4, 6, 4, 3)[:, :, 0]
    found = latents(tokens)  # (7, 4, 1, 5)
    torch.testing.assert_close(found[2, 1, 0], latents.proj(tokens[2, 1].mean(0)))
    assert (latents.grid, latents.dim, latents.is_fitted, latents.is_learned) == (
        (1, 1), 5, True, True,
    )  # fmt: skip


def test_a_pool_grid_keeps_places_apart():
    latents, tokens = pooled(dim=5, pool_grid=(2, 1), is_standardized=False), torch.randn(4, 3)
    rows = torch.cat((tokens[:2].mean(0), tokens[2:].mean(0)))  # the upper and the lower half
    torch.testing.assert_close(latents(tokens)[0], latents.proj(rows))


def test_standardised_pooled_tokens_differ_between_frames_that_are_nearly_the_same():
    frames = torch.randn(4, 3) + 1e-3 * torch.randn(64, 9, 4, 3)  # (batch, time, patches, dim)
    plain, standard = pooled(dim=8, is_standardized=False), pooled(dim=8)
    assert plain(frames).flatten(0, 2).std(0).mean() < 1e-3
    assert standard(frames).flatten(0, 2).std(0).mean() > 0.1
    standard.eval()  # one frame at a time in planning
    torch.testing.assert_close(standard(frames)[3, 2], standard(frames[3, 2]))


def test_pooled_tokens_of_a_model_in_bfloat16_are_bfloat16():
    latents, tokens = pooled(dim=8).to(torch.bfloat16).eval(), torch.randn(5, 4, 3)
    found = latents(tokens.to(torch.bfloat16))
    assert (found.shape, found.dtype) == ((5, 1, 8), torch.bfloat16)


def test_normed_pooled_tokens_are_absolute_and_free_ones_change():
    normed, free = pooled(dim=8, is_normed=True), pooled(dim=8)
    assert (normed.output, free.output) == ("normed", "residual")
    torch.testing.assert_close(normed(torch.randn(9, 4, 3)).mean(-1), torch.zeros(9, 1))


def test_the_distance_of_pooled_tokens_is_the_root_of_the_mean_square():
    latents, goal = pooled(dim=2), torch.tensor([[1.0, 2.0]])
    far = goal + torch.tensor([[1.0, 7.0]])
    distance = latents.distance(torch.stack((goal, far)), goal)
    torch.testing.assert_close(distance, torch.tensor([0.0, 5.0]))  # root of (1 + 49) / 2


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"pool_grid": (0, 1)}, {"dim": 1, "is_normed": True}]
)
def test_impossible_pooled_tokens_are_refused(options):
    with pytest.raises(ValueError, match="dim and pool_grid must be at least 1, dim at least 2"):
        PooledTokens(**options)


def test_a_pool_grid_finer_than_the_patches_is_refused():
    with pytest.raises(ValueError, match=r"pool_grid=\(4, 4\) exceeds the grid \(2, 2\) of patch"):
        pooled(pool_grid=(4, 4))


def test_slow_features_that_are_drawn_anew_hold_nothing_that_was_fitted():
    latents = SlowFeatures(num_features=6, num_components=12, pool_grid=(2, 2))
    latents.build((4, 4), 24)
    with torch.no_grad():
        for buffer in latents.buffers():
            buffer.fill_(3.0)
    torch.manual_seed(0)
    latents.draw_anew()
    assert latents.is_fitted and (latents.mean == 0).all() and (latents.speed == 1).all()
    tokens = torch.randn(400, 16, 24)
    features = latents(tokens)
    flat = latents.flatten(tokens)
    expected = (flat.square().mean() ** 0.5).item()  # directions are of length 1, as a mean
    assert features.std().item() == pytest.approx(expected, rel=0.2)
    assert features.isfinite().all() and latents.distance(features, features[0])[1:].min() > 0


def test_what_holds_nothing_fitted_stays_as_it_is():
    latents = PatchTokens()
    latents.build((2, 2), 4)
    latents.draw_anew()
    assert not list(latents.buffers()) and latents.dim == 4
