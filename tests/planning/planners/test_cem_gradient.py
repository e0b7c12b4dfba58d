"""CEM with gradients: who proposes what, who wins, and what happens where gradients do not help."""

import numpy as np
import pytest
import torch

from planning.planners.cem import CEM
from planning.planners.cem_gradient import CEMGradient

SMALL = {"horizon": 2, "num_samples": 20, "num_elites": 4, "num_starts": 3, "num_steps": 4}


def test_rounds_of_samples_are_followed_by_steps_of_the_best(make_problem):
    problem = make_problem((0.9, -0.4))
    plan = problem.solved_by(CEMGradient(**SMALL, num_iterations=2))
    batches = problem.world.imagined
    assert [len(batch) for batch in batches] == [20, 3, 3, 3, 3, 20, 3, 3, 3, 3]
    assert plan.num_rollouts == 64
    assert plan.num_differentiated == 24
    costs = [problem.cost_of(actions) for actions in batches[0]]
    assert torch.equal(batches[1], batches[0][np.argsort(costs)[:3]])


def test_on_a_smooth_world_gradients_find_the_plan(make_problem):
    plan = make_problem((1.5, -0.8), reduction="mean").solved_by(CEMGradient())
    assert plan.source == "gradients"


def test_it_needs_a_tenth_of_the_rollouts_of_the_official_cem_on_a_smooth_world(make_problem):
    """A differentiated rollout is counted as three. The official planner: 10 rounds of 200."""
    ratios = []
    for seed in range(6):
        goal = tuple(np.random.default_rng(seed).uniform(-2, 2, 3))
        problem = make_problem(goal, reduction="mean")
        official = CEM(horizon=2, num_samples=200, num_elites=10, num_iterations=10, momentum=0.15)
        reference = problem.solved_by(official, seed=seed)
        planner = CEMGradient(
            horizon=2, num_samples=16, num_elites=4, num_starts=2, num_steps=8, num_iterations=2
        )
        problem.world.imagined.clear()
        plan = problem.solved_by(planner, seed=seed)
        spent, needed = 0, float("inf")
        for batch, cost in zip(problem.world.imagined, plan.best_costs, strict=True):
            spent += len(batch) if len(batch) == 16 else 3 * len(batch)
            if cost <= reference.cost * 1.001 + 1e-3:
                needed = spent
                break
        ratios.append(2000 / needed)
    assert np.median(ratios) >= 10


def staircase(imagined, actions):
    """Flat steps, of which the gradient sees nothing (but exists: it is zero)."""
    end = imagined.tokens[:, -1, 0]
    squared = (end - torch.tensor([0.6, -0.3])).square().sum(-1)
    return (squared * 40).floor() / 40 + 0 * end.sum(-1)


def test_where_gradients_do_not_help_it_is_cem_and_says_so(make_problem):
    problem = make_problem((0.6, -0.3))
    planner = CEMGradient(**{**SMALL, "num_steps": 1}, num_iterations=6)
    plan = problem.solved_by(planner, cost=staircase, seed=1)
    assert plan.source == "samples"
    sizes = [len(batch) for batch in problem.world.imagined]
    first_useless = sizes.index(3)
    assert sizes[first_useless + 1 :].count(3) < 5  # a descent that gained nothing was the last
    assert sizes[-2:] == [20, 20]
    assert plan.cost <= 1 / 40


def test_after_a_descent_without_gain_there_are_rounds_of_samples_only(make_problem):
    """Also where costs are far from 0: one useless step, then two rounds in each iteration."""
    planner = CEMGradient(**{**SMALL, "num_steps": 1}, num_iterations=3)
    problem = make_problem((0.6, -0.3))
    problem.solved_by(planner, cost=lambda latent, actions: 5 + staircase(latent, actions))
    assert [len(batch) for batch in problem.world.imagined] == [20, 3, 20, 20, 20, 20]


def test_a_descent_goes_on_where_the_one_before_ended(make_problem):
    """The samples of the second round are all ruled out, so none takes a start's place."""
    problem = make_problem((0.9, -0.4))

    def only_first_samples(imagined, actions):
        costs = problem.cost(imagined, actions)
        is_second = len(problem.world.imagined) == 6
        return torch.where(torch.tensor(is_second), torch.inf, costs)

    problem.solved_by(CEMGradient(**SMALL, num_iterations=2), cost=only_first_samples)
    batches = problem.world.imagined[:]
    assert [len(batch) for batch in batches] == [20, 3, 3, 3, 3, 20, 3, 3, 3, 3]
    last, next_one = (
        torch.tensor([problem.cost_of(actions) for actions in batches[index]]) for index in (4, 6)
    )
    assert (next_one < last + 0.01).all()
    assert (batches[6] - batches[4]).abs().max() < 0.4  # one step away, not somewhere else


def test_its_steps_fall_like_a_cosine_over_all_descents(make_problem):
    """On a slope that is the same everywhere Adam's direction is 1: moves are the step sizes."""
    problem = make_problem((0.0,), low=(-100.0,), high=(100.0,))
    planner = CEMGradient(
        horizon=1, num_samples=8, num_elites=2, num_starts=2, num_steps=3, num_iterations=2,
        step_size=0.01, last_step_share=0.2, initial_std=0.1,
    )  # fmt: skip
    problem.solved_by(planner, cost=lambda imagined, actions: -actions[:, 0, 0])
    batches = [batch[:, 0, 0] for batch in problem.world.imagined]
    assert [len(batch) for batch in batches] == [8, 2, 2, 2, 8, 2, 2, 2]
    for index, taken in ((1, 0), (2, 1), (5, 3), (6, 4)):
        expected = 0.2 + 0.8 * (1 + np.cos(np.pi * taken / 6)) / 2
        moves = batches[index + 1] - batches[index]
        np.testing.assert_allclose(moves, [expected] * 2, rtol=1e-3)


def test_gradients_that_are_not_numbers_leave_cem(make_problem):
    problem = make_problem((0.6, -0.3))

    def broken_slope(imagined, actions):
        return problem.cost(imagined, actions) + 0 * (actions - actions).sqrt().sum((1, 2))

    plan = problem.solved_by(CEMGradient(horizon=1), cost=broken_slope)
    assert plan.actions[0].numpy() == pytest.approx([0.6, -0.3], abs=0.1)


def test_a_world_without_gradients_is_one_clear_error(make_problem):
    problem = make_problem((0.5,))
    with pytest.raises(ValueError, match=r"costs have no gradient .* or plan with CEM"):
        problem.solved_by(CEMGradient(horizon=1), cost=lambda i, a: problem.cost(i, a).detach())


def test_what_the_descent_finds_is_among_the_elites(make_problem):
    """After one iteration the mean is that of the elites of samples and of the descent's best."""
    problem = make_problem((0.9, -0.4))
    planner = CEMGradient(**{**SMALL, "num_elites": 3}, num_iterations=1, momentum=0.0)
    plan = problem.solved_by(planner)
    samples, *steps = problem.world.imagined
    per_start = torch.stack(steps)  # (steps, starts, horizon, dim)
    costs = torch.tensor([[problem.cost_of(a) for a in batch] for batch in per_start])
    best = per_start[costs.argmin(0), torch.arange(3)]
    pool = torch.cat((samples, best))
    order = np.argsort([problem.cost_of(a) for a in pool], kind="stable")
    chosen = pool[order[:3]]
    torch.testing.assert_close(plan.mean, chosen.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_starts": 0}, "num_starts must be at least 1, got 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        ({"num_elites": 65}, "num_elites=65 exceeds num_samples=48; raise num_samples or lower"),
        ({"num_starts": 65}, "num_starts=65 exceeds num_samples=48; raise num_samples or lower"),
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"min_std": 0.0}, "min_std must be positive and finite, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        CEMGradient(**settings)
