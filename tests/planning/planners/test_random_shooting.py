"""Random shooting is one batch; the rest is in the contract of all planners."""

import pytest
import torch

from planning.planners.random_shooting import RandomShooting


def test_it_is_one_batch_around_the_middle_of_the_bounds(make_problem):
    problem = make_problem((0.0,), low=(2.0,), high=(6.0,))
    plan = problem.solved_by(RandomShooting(horizon=2, num_samples=5000, std=0.25))
    (batch,) = problem.world.imagined
    assert batch.shape == (5000, 2, 1)
    assert batch.mean().item() == pytest.approx(4.0, abs=0.02)
    assert batch.std().item() == pytest.approx(0.25 * 2, rel=0.03)
    assert plan.mean.flatten().tolist() == [4.0, 4.0]
    assert plan.spread.flatten().tolist() == [0.5, 0.5]


def test_more_samples_of_the_same_seed_are_never_worse(make_problem):
    problem = make_problem((1.0, -2.0))
    costs = [
        problem.solved_by(RandomShooting(horizon=1, num_samples=count)).cost
        for count in (1, 10, 100, 1000)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_with_one_sample_it_returns_the_middle_or_the_previous_plan(make_problem, make_plan):
    problem, planner = make_problem((1.0, 1.0)), RandomShooting(horizon=2, num_samples=1)
    assert problem.solved_by(planner).actions.tolist() == [[0, 0], [0, 0]]
    previous = make_plan([[0.25, 0.5], [0.5, -0.5]])
    plan = problem.solved_by(planner, previous_plan=previous, executed_steps=1)
    assert torch.equal(plan.actions, torch.tensor([[0.5, -0.5], [0.5, -0.5]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"std": 0.0}, "std must be positive and finite, got 0.0"),
        ({"std": float("nan")}, "std must be positive and finite, got nan"),
        ({"smoothness": 1.5}, r"smoothness must be in \[0, 1\), got 1.5"),
        ({"smoothness": -0.1}, r"smoothness must be in \[0, 1\), got -0.1"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomShooting(**settings)
