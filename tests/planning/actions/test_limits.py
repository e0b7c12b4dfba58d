"""Norms, grippers and bounds of steps: what they refuse, and projections against a slow one."""

import numpy as np
import pytest
import torch

from planning.actions.limits import Gripper, NormLimit, within_norm

NAN, INF = float("nan"), float("inf")


def projected(values, low, high, max_norm, order=2):
    values, low, high = (torch.as_tensor(part, dtype=torch.float64) for part in (values, low, high))
    return within_norm(values, low, high, max_norm=max_norm, order=order)


def nearest_by_dykstra(values, low, high, max_norm, order, *, rounds=20_000):
    """The nearest point of box and ball: alternating projections with Dykstra's corrections."""
    x, p, q = (np.array(values, float), *np.zeros((2, len(values))))
    for _ in range(rounds):
        y = np.clip(x + p, low, high)
        p = x + p - y
        x = into_ball(y + q, max_norm, order)
        q = y + q - x
    return np.clip(x, low, high)


def into_ball(x, radius, order):
    if np.linalg.norm(x, order) <= radius:
        return x
    if order == 2:
        return x * radius / np.linalg.norm(x)
    sizes = np.sort(np.abs(x))[::-1]
    less = (sizes.cumsum() - radius) / np.arange(1, len(x) + 1)
    return np.sign(x) * np.maximum(np.abs(x) - less[np.nonzero(sizes > less)[0][-1]], 0)


# By hand.


def test_what_is_short_enough_comes_back_as_it_is():
    values = torch.tensor([[0.3, -0.4], [0.0, 0.0], [0.5, 0.0]], dtype=torch.float64)
    assert torch.equal(projected(values, [-1, -1], [1, 1], 0.5), values)


def test_a_long_action_is_shortened_in_its_direction():
    assert projected([3.0, -4.0], [-9, -9], [9, 9], 1.0).tolist() == pytest.approx([0.6, -0.8])


def test_with_the_sum_of_sizes_all_sizes_shrink_by_the_same_amount():
    shortened = projected([0.9, -0.5, 0.1], [-1] * 3, [1] * 3, 1.0, order=1)
    assert shortened.tolist() == pytest.approx([0.7, -0.3, 0.0])


def test_a_bound_takes_its_share_before_the_others_are_shortened():
    """From (3, 4) with x at most 0.28 and length 1: x is at its bound, and y = 0.96 is left."""
    assert projected([3.0, 4.0], [-9, -9], [0.28, 9], 1.0).tolist() == pytest.approx([0.28, 0.96])


def test_clipping_and_then_shortening_would_not_give_the_nearest():
    """Clipped to (1, 0.1) and then shortened it would be (0.796, 0.080): farther from (4, 0.1)."""
    nearest = projected([4.0, 0.1], [-1, -1], [1, 1], 0.8)
    worse = torch.tensor([1.0, 0.1]) * 0.8 / 1.01**0.5
    given = torch.tensor([4.0, 0.1])
    assert (nearest - given).norm() < (worse - given).norm()
    assert nearest.tolist() == pytest.approx([0.79975, 0.019994], rel=1e-4)


def test_where_the_bounds_leave_nothing_short_enough_the_shortest_is_taken():
    assert projected([2.0, 2.0], [1, 1], [3, 3], 0.5).tolist() == [1, 1]
    assert projected([2.0, 2.0], [1, 1], [3, 3], 0.5, order=1).tolist() == [1, 1]


# Against the slow reference.


@pytest.mark.parametrize("order", [1, 2])
def test_it_is_the_nearest_of_all_that_keep_bounds_and_norm(order):
    generator = np.random.default_rng(order)
    for _ in range(12):
        dim = int(generator.integers(1, 5))
        low = generator.uniform(-1, 0.1, dim)
        high = low + generator.uniform(0.05, 1.5, dim)
        shortest = np.linalg.norm(np.clip(0, low, high), order)
        max_norm = shortest + generator.uniform(0.05, 1)
        values = generator.normal(size=dim) * 2
        ours = projected(values, low, high, max_norm, order).numpy()
        slow = nearest_by_dykstra(values, low, high, max_norm, order, rounds=3000)
        assert ours == pytest.approx(slow, abs=2e-4)
        assert np.linalg.norm(ours - values) <= np.linalg.norm(slow - values) + 1e-6


# For whatever comes.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [1, 2])
def test_the_result_is_inside_and_is_its_own_projection(order, dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((3000, 3), generator=generator, dtype=torch.float64)
    values *= 10 ** torch.linspace(-6, 12, 3000, dtype=torch.float64).unsqueeze(1)
    values[::7, 1] = 0
    low, high = (torch.tensor(b).to(dtype) for b in ([-1.0, -0.25, 0.0], [0.5, 0.25, 2.0]))
    once = within_norm(values.to(dtype), low, high, max_norm=0.6, order=order)
    assert once.dtype == dtype
    assert ((once >= low) & (once <= high)).all()
    assert (once.double().norm(order, dim=-1) <= 0.6).all()
    assert torch.equal(within_norm(once, low, high, max_norm=0.6, order=order), once)


@pytest.mark.parametrize("order", [1, 2])
def test_infinite_values_end_inside_and_nan_stays_nan(order):
    values = torch.tensor([[INF, 1.0], [-INF, INF], [NAN, 9.0], [1e38, -1e38]])
    low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    limited = within_norm(values, low, high, max_norm=0.5, order=order)
    assert limited[2].isnan().any()
    assert limited[[0, 1, 3]].isfinite().all()
    assert (limited[[0, 1, 3]].norm(order, dim=-1) <= 0.5).all()


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_those_of_finite_differences(order):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn((20, 3), generator=generator, dtype=torch.float64) * 1.5
    bounds = torch.tensor([-1.0, -0.4, -0.7]).double(), torch.tensor([0.3, 0.9, 1.2]).double()
    values.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: within_norm(x, *bounds, max_norm=0.8, order=order), values, eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_finite_at_the_edges(order):
    edges = [[0.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.5, 0.5], [2.0, 2.0], [1e30, 1e-30], [9, 0]]
    values = torch.tensor(edges, requires_grad=True)
    low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    within_norm(values, low, high, max_norm=1.0, order=order).sum().backward()
    assert values.grad.isfinite().all()


# Grippers.


def test_a_binary_gripper_is_open_or_closed_and_the_threshold_closes():
    values = torch.tensor([0.0, 0.49, 0.5, 1.0, NAN])
    snapped = Gripper("grip").snapped(values, 0.0, 1.0)
    assert snapped[:4].tolist() == [0, 0, 1, 1]
    assert snapped[4].isnan()
    assert Gripper("grip", threshold=0.8).snapped(values[:4], 0.0, 1.0).tolist() == [0, 0, 0, 1]
    assert Gripper("grip").snapped(torch.tensor([-0.1, 0.1]), -1.0, 1.0).tolist() == [-1, 1]


def test_in_its_dead_zone_a_gripper_does_nothing():
    values = torch.tensor([-0.75, -0.25, -0.2, 0.0, 0.2, 0.25, 0.75, NAN])
    snapped = Gripper("grip", "dead_zone", 0.25).snapped(values, -0.75, 0.75)
    assert snapped[:7].tolist() == [-0.75, -0.25, 0, 0, 0, 0.25, 0.75]
    assert snapped[7].isnan()


@pytest.mark.parametrize("gripper", [Gripper("g"), Gripper("g", "dead_zone", 0.4)])
def test_a_snap_passes_its_gradient_on(gripper):
    values = torch.tensor([0.1, 0.3, 0.9], requires_grad=True)
    (gripper.snapped(values, 0.0, 1.0) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad.tolist() == [1, 2, 3]


# What cannot be.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormLimit((), 1.0), r"needs different dimensions, got \(\)"),
        (lambda: NormLimit(("x", "x"), 1.0), "needs different dimensions"),
        (lambda: NormLimit(("x",), 0.0), "must be positive and finite, got 0.0"),
        (lambda: NormLimit(("x",), NAN), "must be positive and finite, got nan"),
        (lambda: NormLimit(("x",), 1.0, 3), "must be 1 or 2, got 3"),
        (lambda: Gripper("g", "soft"), "must be 'binary' or 'dead_zone', got 'soft'"),
        (lambda: Gripper("g", "dead_zone"), "needs a positive threshold, got None"),
        (lambda: Gripper("g", "dead_zone", -0.1), "needs a positive threshold, got -0.1"),
    ],
)
def test_limits_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
