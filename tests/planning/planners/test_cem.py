"""The cross-entropy method against a slow reference, and its settings."""

import numpy as np
import pytest
import torch

from planning.planners.cem import CEM


def slow_cem(batches, costs_of, planner, half_range):
    """Refits to recorded samples with loops over plain numbers; returns mean, std, elite costs."""
    horizon, dim = batches[0].shape[1:]
    mean, std = np.zeros((horizon, dim)), np.full((horizon, dim), planner.initial_std) * half_range
    elite_costs = []
    for batch in batches:
        costs = costs_of(batch)
        order = [i for i in np.argsort(costs) if np.isfinite(costs[i])][: planner.num_elites]
        elite_costs.append(np.mean([costs[i] for i in order]))
        for t in range(horizon):
            for d in range(dim):
                values = [float(batch[i, t, d]) for i in order]
                middle = sum(values) / len(values)
                variance = sum((value - middle) ** 2 for value in values) / len(values)
                kept, new = planner.momentum, 1 - planner.momentum
                mean[t, d] = kept * mean[t, d] + new * middle
                std[t, d] = kept * std[t, d] + new * variance**0.5
                std[t, d] = max(std[t, d], planner.min_std * half_range[d])
    return mean, std, elite_costs


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.0, "min_std": 1e-6},
        {"momentum": 0.4, "min_std": 1e-6},
        {"momentum": 0.1, "min_std": 0.3},
        {"momentum": 0.1, "smoothness": 0.6},
        {"num_elites": 1},
        {"num_elites": 40},
    ],
    ids=str,
)
def test_mean_and_std_follow_a_slow_reference(make_problem, settings):
    problem = make_problem((1.5, -4.0), low=(-1, -2), high=(1, 2), reduction="mean")
    planner = CEM(**{"horizon": 3, "num_samples": 40, "num_elites": 7, **settings})
    plan = problem.solved_by(planner)
    batches = [batch.numpy() for batch in problem.world.imagined]

    def costs_of(batch):
        ends = batch.astype(np.float64).cumsum(1)  # (samples, horizon, action_dim)
        return ((ends - [1.5, -4.0]) ** 2).sum(-1).mean(-1)

    mean, std, elite_costs = slow_cem(batches, costs_of, planner, np.array([1.0, 2.0]))
    assert len(batches) == planner.num_iterations
    np.testing.assert_allclose(plan.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plan.spread, std, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(plan.elite_costs, elite_costs, rtol=1e-4)


def test_where_few_costs_are_finite_only_those_are_elites(make_problem):
    problem = make_problem((0.0,))
    planner = CEM(horizon=2, num_samples=50, num_elites=20, num_iterations=1)

    def rarely_finite(imagined, actions):
        is_allowed = actions[:, 0, 0] < -0.6
        return torch.where(is_allowed, problem.cost(imagined, actions), torch.nan)

    plan = problem.solved_by(planner, cost=rarely_finite)
    (batch,) = problem.world.imagined
    allowed = batch[batch[:, 0, 0] < -0.6]
    assert 2 <= len(allowed) < planner.num_elites
    np.testing.assert_allclose(plan.mean, 0.9 * allowed.mean(0), rtol=1e-4, atol=1e-6)
    assert np.isfinite(plan.elite_costs).all()


def test_the_first_sample_of_each_iteration_is_the_mean(make_problem):
    problem = make_problem((1.5, -0.8))
    plan = problem.solved_by(CEM(horizon=3, num_iterations=4))
    shorter = problem.solved_by(CEM(horizon=3, num_iterations=3))
    batches = problem.world.imagined[:4]
    assert torch.equal(batches[0][0], torch.zeros(3, 2))
    assert torch.equal(batches[3][0], shorter.mean)
    assert plan.iterations == 4


def test_it_converges_to_the_minimum_that_can_be_worked_out(make_problem):
    problem = make_problem((2.5,), reduction="mean")
    plan = problem.solved_by(CEM(horizon=4, num_iterations=15, min_std=0.01))
    assert plan.actions.flatten().numpy() == pytest.approx([1, 1, 0.5, 0], abs=0.06)
    assert plan.cost == pytest.approx(0.625, abs=2e-3)


def test_a_plan_for_a_corner_of_the_bounds_reaches_it_exactly(make_problem):
    plan = make_problem((10.0, -10.0)).solved_by(CEM(horizon=3, num_iterations=15))
    assert plan.actions.tolist() == [[1, -1]] * 3


def test_the_spread_shrinks_but_not_below_its_floor(make_problem):
    problem = make_problem((0.5, 1.0), low=(-1, -4), high=(1, 4))
    plan = problem.solved_by(CEM(horizon=1, num_iterations=30, min_std=0.02))
    assert plan.spread[0].numpy() == pytest.approx([0.02, 0.08], rel=0.3)
    assert (plan.spread[0] >= torch.tensor([0.02, 0.08])).all()


def test_warm_steps_are_sampled_with_warm_std_and_new_ones_with_initial_std(
    make_problem, make_plan
):
    problem = make_problem((0.0,), low=(-100.0,), high=(100.0,))
    planner = CEM(horizon=3, num_samples=4000, num_iterations=1, initial_std=0.05, warm_std=0.01)
    previous = make_plan([[0.0], [1.0], [2.0]])
    problem.solved_by(planner, previous_plan=previous, executed_steps=1)
    (batch,) = problem.world.imagined
    assert batch[..., 0].std(0).numpy() == pytest.approx([1.0, 1.0, 5.0], rel=0.05)
    assert batch[..., 0].mean(0).numpy() == pytest.approx([1.0, 2.0, 2.0], abs=0.3)


def test_a_warm_start_helps_where_there_is_little_time(make_problem):
    cold, warm = [], []
    for seed in range(8):
        problem = make_problem((5.0, -3.0), reduction="mean")
        previous = problem.solved_by(CEM(horizon=8), seed=100 + seed)
        options = {"seed": seed, "deadline_seconds": 1e-9}
        cold.append(problem.solved_by(CEM(horizon=8), **options).cost)
        warm.append(problem.solved_by(CEM(horizon=8), previous_plan=previous, **options).cost)
    assert np.mean(warm) < 0.8 * np.mean(cold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"momentum": float("nan")}, r"momentum must be in \[0, 1\), got nan"),
        ({"smoothness": 1.0}, r"smoothness must be in \[0, 1\), got 1.0"),
        ({"initial_std": 0.0}, "initial_std must be positive and finite, got 0.0"),
        ({"warm_std": -1.0}, "warm_std must be positive and finite, got -1.0"),
        ({"min_std": float("inf")}, "min_std must be positive and finite, got inf"),
        ({"min_std": float("nan")}, "min_std must be positive and finite, got nan"),
        (
            {"num_elites": 80, "num_samples": 64},
            "num_elites=80 exceeds num_samples=64; raise num_samples or lower num_elites",
        ),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        CEM(**settings)
