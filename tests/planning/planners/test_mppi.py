"""MPPI: its weights by hand, and what they do to mean and spread."""

import math

import numpy as np
import pytest
import torch

from planning.planners.mppi import MPPI, path_weights


def test_weights_are_exponentials_of_costs_over_their_spread():
    """Costs 0 and 2 have a standard deviation of 1: at temperature 0.5, exp(-2 / 0.5) = exp(-4)."""
    weights = path_weights(torch.tensor([0.0, 2.0]), temperature=0.5)
    assert weights.tolist() == pytest.approx([1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))])


@pytest.mark.parametrize(
    "change",
    [lambda c: c + 100, lambda c: c * 1e6, lambda c: c * 1e-6 - 3e-6, lambda c: c * 1e37],
    ids=["added", "large", "small", "huge"],
)
def test_the_unit_of_the_cost_is_of_no_account(change):
    costs = torch.tensor([1.0, 2.0, 4.0, 4.5])
    expected = path_weights(costs, temperature=0.7)
    np.testing.assert_allclose(path_weights(change(costs), temperature=0.7), expected, rtol=1e-3)


def test_costs_from_end_to_end_of_floats_have_finite_weights():
    most = torch.finfo(torch.float32).max
    weights = path_weights(torch.tensor([-most, 0.0, most]), temperature=0.1)
    assert weights.isfinite().all()
    assert weights.sum().item() == pytest.approx(1)
    assert weights[0] > 0.99


def test_infinite_costs_weigh_nothing_and_change_no_other_weight():
    costs = torch.tensor([3.0, torch.inf, 1.0, torch.inf])
    weights = path_weights(costs, temperature=0.5)
    assert weights[[1, 3]].tolist() == [0, 0]
    torch.testing.assert_close(weights[[0, 2]], path_weights(costs[[0, 2]], temperature=0.5))


def test_equal_costs_weigh_the_same():
    for costs in (torch.full((4,), 7.0), torch.zeros(4)):
        assert path_weights(costs, temperature=0.01).tolist() == pytest.approx([0.25] * 4)
    assert path_weights(torch.tensor([5.0]), temperature=1.0).tolist() == [1.0]


def test_a_temperature_next_to_nothing_takes_the_best_and_is_no_division_of_nothing():
    for temperature in (1e-44, 1e-60, 1e-310):
        weights = path_weights(torch.tensor([3.0, 1.0, 2.0]), temperature=temperature)
        assert weights.tolist() == [0, 1, 0]
        equal = path_weights(torch.tensor([2.0, 2.0]), temperature=temperature)
        assert equal.tolist() == [0.5, 0.5]


def test_a_low_temperature_takes_the_best_and_a_high_one_all_alike():
    costs = torch.tensor([3.0, 1.0, 2.0])
    assert path_weights(costs, temperature=1e-4).tolist() == pytest.approx([0, 1, 0])
    assert path_weights(costs, temperature=1e4).tolist() == pytest.approx([1 / 3] * 3, rel=1e-3)


@pytest.mark.parametrize("updates_std", [True, False])
def test_mean_and_std_follow_a_slow_reference(make_problem, updates_std):
    problem = make_problem((1.5, -0.8), low=(-1, -2), high=(1, 2))
    planner = MPPI(
        horizon=2, num_samples=30, num_elites=9, num_iterations=3, temperature=0.4,
        momentum=0.2, min_std=0.1, updates_std=updates_std,
    )  # fmt: skip
    plan = problem.solved_by(planner)
    half_range = np.array([1.0, 2.0])
    mean, std = np.zeros((2, 2)), np.full((2, 2), planner.initial_std) * half_range
    for batch in problem.world.imagined[:]:
        costs = np.array([problem.cost_of(actions) for actions in batch])
        best = np.argsort(costs)[:9]
        weights = np.exp(-(costs[best] - costs[best].min()) / (0.4 * costs[best].std()))
        weights /= weights.sum()
        elites = batch[best].double().numpy()
        middle = sum(w * elite for w, elite in zip(weights, elites, strict=True))
        spread = sum(w * (e - middle) ** 2 for w, e in zip(weights, elites, strict=True)) ** 0.5
        mean = 0.2 * mean + 0.8 * middle
        if updates_std:
            std = np.maximum(0.2 * std + 0.8 * spread, 0.1 * half_range)
    np.testing.assert_allclose(plan.mean, mean, atol=1e-4)
    np.testing.assert_allclose(plan.spread, std, atol=1e-4)


def test_a_cost_a_million_times_larger_gives_the_same_plan(make_problem):
    problem = make_problem((1.5, -0.8), reduction="mean")
    plan = problem.solved_by(MPPI(horizon=4))
    larger = problem.solved_by(MPPI(horizon=4), cost=lambda i, a: 2**20 * problem.cost(i, a))
    torch.testing.assert_close(larger.actions, plan.actions, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        ({"num_elites": 65, "num_samples": 64}, "num_elites=65 exceeds num_samples=64; raise"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be positive and finite, got nan"),
        ({"min_std": 0.0}, "min_std must be positive and finite, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"smoothness": -0.1}, r"smoothness must be in \[0, 1\), got -0.1"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        MPPI(**settings)
