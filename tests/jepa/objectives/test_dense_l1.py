import math

import pytest
import torch
import torch.nn.functional as F

from jepa.objectives import DenseL1, LatentL1
from jepa.objectives.dense_l1 import distances_to_targets


def split(grid, num_targets, *, batch):
    """Random places of a grid, some hidden, the rest shown."""
    places = torch.rand(batch, math.prod(grid)).argsort(1)
    return places[:, num_targets:].sort(1).values, places[:, :num_targets].sort(1).values


def place(token, grid):
    _, height, width = grid
    return (token // (height * width), token // width % height, token % width)


def slow_distances(context_ids, target_ids, grid):
    """One token after the other."""
    return torch.tensor(
        [
            [
                min(math.dist(place(one, grid), place(other, grid)) for other in targets)
                for one in context
            ]
            for context, targets in zip(context_ids.tolist(), target_ids.tolist(), strict=True)
        ]
    )


def slow_context_loss(predicted, target, distances, num_levels):
    total, count = 0.0, 0
    dim = target.shape[-1] // num_levels
    for clip in range(len(target)):
        for token in range(target.shape[1]):
            for level in range(num_levels):
                channels = slice(level * dim, (level + 1) * dim)
                wanted = F.layer_norm(target[clip, token, channels], (dim,))
                error = (predicted[clip, token, channels] - wanted).abs()
                total += (error / distances[clip, token] ** 0.5).sum().item()
                count += dim
    return total / count


@pytest.mark.parametrize(
    ("grid", "num_targets", "batch"),
    [((2, 4, 4), 20, 3), ((2, 4, 4), 1, 2), ((3, 5, 2), 4, 1), ((1, 6, 6), 30, 2)],
)
def test_distances_and_loss_equal_those_of_a_loop_over_tokens(grid, num_targets, batch):
    context_ids, target_ids = split(grid, num_targets, batch=batch)
    distances = slow_distances(context_ids, target_ids, grid)
    torch.testing.assert_close(distances_to_targets(context_ids, target_ids, grid), distances)
    predicted, target = torch.randn(2, *context_ids.shape, 3 * 8)
    objective = DenseL1(num_levels=3, context_weight=0.5, warmup_start_step=0, warmup_end_step=0)
    terms = objective.context(
        predicted, target, context_ids=context_ids, target_ids=target_ids, grid=grid, step=0
    )
    expected = slow_context_loss(predicted, target, distances, num_levels=3)
    assert terms.parts["context"].item() == pytest.approx(expected, rel=1e-5)
    assert terms.total.item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_each_clip_has_its_own_targets():
    context_ids, target_ids = torch.tensor([[0], [0]]), torch.tensor([[3], [15]])
    distances = distances_to_targets(context_ids, target_ids, (1, 4, 4))
    torch.testing.assert_close(distances, torch.tensor([[3.0], [18**0.5]]))


def test_a_visible_token_four_away_weighs_half_as_much_as_a_neighbour():
    context_ids, target_ids = torch.tensor([[0, 3]]), torch.tensor([[4]])  # one row of five
    predicted, target = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0]] * 2])  # each error is 1
    options = {"context_ids": context_ids, "target_ids": target_ids, "grid": (1, 1, 5), "step": 0}
    weighted, flat = (
        DenseL1(num_levels=1, warmup_start_step=0, warmup_end_step=0, weighted_by_distance=yes)
        for yes in (True, False)
    )
    parts = weighted.context(predicted, target, **options).parts
    assert parts["context"].item() == pytest.approx((1 / 2 + 1) / 2, abs=1e-4)
    parts = flat.context(predicted, target, **options).parts
    assert parts["context"].item() == pytest.approx(1.0, abs=1e-4)


def test_a_token_that_is_shown_and_asked_for_counts_as_a_neighbour():
    ids = torch.tensor([[5]])
    assert distances_to_targets(ids, ids, (1, 4, 4)).item() == 1.0


def test_one_level_is_the_latent_l1():
    predicted, target = torch.randn(2, 4, 5, 8)
    one = DenseL1(num_levels=1)(predicted, target).total
    torch.testing.assert_close(one, LatentL1()(predicted, target).total)


def test_levels_are_normed_each_by_itself():
    predicted, target = torch.randn(2, 4, 5, 16)
    scaled = target * torch.tensor([1.0, 50.0]).repeat_interleave(8)
    objective = DenseL1(num_levels=2)
    one, two = (objective(predicted, levels).total for levels in (target, scaled))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    halves = [
        LatentL1()(predicted[..., half], target[..., half]).total
        for half in (slice(0, 8), slice(8, 16))
    ]
    torch.testing.assert_close(one, torch.stack(halves).mean())


@pytest.mark.parametrize(
    ("step", "weight"),
    [(0, 0.0), (14_999, 0.0), (15_000, 0.0), (18_000, 0.1), (30_000, 0.5), (99_999, 0.5)],
)
def test_the_weight_of_the_context_rises_between_the_steps_of_the_paper(step, weight):
    assert DenseL1().context_weight_at(step) == pytest.approx(weight)


def test_a_warm_up_without_length_is_a_step():
    objective = DenseL1(warmup_start_step=10, warmup_end_step=10)
    assert [objective.context_weight_at(step) for step in (9, 10)] == [0.0, 0.5]


def test_before_the_warm_up_the_context_has_a_gradient_of_zero_and_no_target_has_one():
    predicted, target = (torch.randn(1, 2, 8, requires_grad=True) for _ in range(2))
    ids = {"context_ids": torch.tensor([[0, 1]]), "target_ids": torch.tensor([[2]])}
    for step, is_zero in ((0, True), (40_000, False)):
        predicted.grad = None
        DenseL1().context(predicted, target, **ids, grid=(1, 1, 4), step=step).total.backward()
        assert (predicted.grad == 0).all() == is_zero
    assert target.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be at least 1, got 0"),
        ({"context_weight": -0.5}, "weights must be finite and at least 0"),
        ({"warmup_start_step": 7, "warmup_end_step": 3}, "start_step=7 and warmup_end_step=3"),
        ({"warmup_start_step": -1}, "must begin at 0 or later"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DenseL1(**options)


def test_channels_that_are_not_levels_of_equal_width_are_refused():
    with pytest.raises(ValueError, match="10 channels are not 4 levels"):
        DenseL1()(torch.zeros(1, 2, 10), torch.zeros(1, 2, 10))


@pytest.mark.parametrize(
    ("context_ids", "target_ids", "message"),
    [
        ([[0]], [[3]], r"context_ids \(1, 1\) must name .* \(1, 2\)"),
        ([[0, 1]], [[3], [2]], r"with batch 1 .* got \(2, 1\)"),
        ([[0, 1]], [[]], r"at least one target, got \(1, 0\)"),
    ],
)
def test_ids_that_do_not_fit_the_tokens_are_refused(context_ids, target_ids, message):
    ids = {
        "context_ids": torch.tensor(context_ids),
        "target_ids": torch.tensor(target_ids, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        DenseL1().context(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8), **ids, grid=(1, 2, 2), step=0)
