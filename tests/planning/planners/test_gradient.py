"""Gradient descent: gradients against finite differences, valleys, plateaus, walls."""

import math

import numpy as np
import pytest
import torch

from planning.costs import GoalDistance
from planning.planners.gradient import Gradient
from planning.types import Latent


def test_gradients_through_a_trained_like_world_equal_finite_differences(make_model, rooms):
    """Central differences of the energy, in double precision, of every action of two sequences."""
    from planning.latent_world import LatentWorld

    room, draws = rooms(), np.random.default_rng(0)
    world = LatentWorld(make_model())
    positions = [room.sample_position(draws) for _ in range(2)]
    start, goal = (world.encode(room.render(p), p.astype(np.float32)) for p in positions)
    start, goal = start.map(torch.clone), goal.map(torch.clone)
    world.model.double()
    start, goal = start.map(torch.Tensor.double), goal.map(torch.Tensor.double)
    cost = GoalDistance(Latent(goal.tokens), world.distance)
    actions = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actions.requires_grad_()
    (gradients,) = torch.autograd.grad(cost(world.rollout(start, actions), actions).sum(), actions)

    def energy(changed):
        with torch.no_grad():
            return cost(world.rollout(start, changed), changed).sum().item()

    expected, size = torch.zeros_like(actions), 1e-5
    for index in np.ndindex(*actions.shape):
        change = torch.zeros_like(actions)
        change[index] = size
        expected[index] = (energy(actions + change) - energy(actions - change)) / (2 * size)
    assert gradients.abs().max() > 1e-6
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-8)


def test_it_takes_the_steps_of_torchs_adam(make_problem):
    """One start, no decay: the sequences are those of torch.optim.Adam with the same settings."""
    problem = make_problem((0.7,), start=(0.1,))
    planner = Gradient(
        horizon=2, num_starts=1, num_iterations=12, step_size=0.05, last_step_share=1.0,
        momentum=0.9, second_momentum=0.999,
    )  # fmt: skip
    problem.solved_by(planner)
    ours = torch.cat(problem.world.imagined)
    actions = torch.zeros(2, 1, requires_grad=True)
    optimizer = torch.optim.Adam([actions], lr=0.05, betas=(0.9, 0.999))
    for step in range(12):
        torch.testing.assert_close(ours[step], actions.detach(), atol=1e-6, rtol=0)
        optimizer.zero_grad()
        (0.1 + actions.sum() - 0.7).square().backward()
        optimizer.step()


def test_it_comes_much_nearer_to_the_minimum_than_sampling_with_as_many_rollouts(make_problem):
    from planning.planners.cem import CEM

    problem = make_problem((1.7, -2.3), reduction="last")
    plan = problem.solved_by(Gradient(horizon=4))
    sampled = problem.solved_by(CEM(horizon=4, num_samples=80, num_elites=8))
    assert plan.num_rollouts == sampled.num_rollouts == 480
    assert plan.cost < 0.1 * sampled.cost


def test_a_corner_of_the_bounds_is_reached_exactly(make_problem):
    plan = make_problem((10.0, -10.0)).solved_by(Gradient(horizon=3))
    assert plan.actions.tolist() == [[1, -1]] * 3
    assert plan.warnings[0].startswith("saturation: 100% of the plan lies at the bounds")


def test_a_plateau_is_searched_at_random_until_there_is_a_slope(make_problem):
    """The cost falls only where x > 0.8, which no start sees at first."""
    problem = make_problem((1.0,))

    def plateau(imagined, actions):
        end = imagined.tokens[:, -1, 0, 0]
        return torch.where(end > 0.8, 1 - end, 0.5 + 0 * end)

    planner = Gradient(horizon=1, num_starts=8, num_iterations=30, initial_std=0.2)
    plan = problem.solved_by(planner, cost=plateau)
    assert (problem.world.imagined[0] < 0.8).all()
    assert plan.cost < 0.05
    assert plan.warnings[-1].startswith("flat landscape")


def test_its_steps_fall_like_a_cosine(make_problem):
    """On a slope that is the same everywhere Adam's direction is 1: moves are the step sizes."""
    problem = make_problem((0.0,), low=(-100.0,), high=(100.0,))
    planner = Gradient(
        horizon=1, num_starts=2, num_iterations=6, step_size=0.01, last_step_share=0.2
    )
    problem.solved_by(planner, cost=lambda imagined, actions: -actions[:, 0, 0])
    moves = torch.stack(problem.world.imagined)[..., 0, 0].diff(dim=0)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(5)]
    np.testing.assert_allclose(moves, np.outer(expected, [1, 1]), rtol=1e-3)


def test_every_rollout_counts_as_differentiated(make_problem):
    plan = make_problem((0.5,)).solved_by(Gradient(horizon=1, num_starts=4, num_iterations=5))
    assert plan.num_differentiated == plan.num_rollouts == 20


def test_a_world_without_gradients_is_one_clear_error(make_problem):
    problem = make_problem((0.5,))
    match = "costs have no gradient with respect to the actions, which this planner needs"
    with pytest.raises(ValueError, match=match):
        problem.solved_by(Gradient(horizon=1), cost=lambda i, a: problem.cost(i, a).detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_starts": 0}, "num_starts must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"step_size": float("nan")}, "step_size must be positive and finite, got nan"),
        ({"last_step_share": 0.0}, "last_step_share must be positive and finite, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"second_momentum": 1.0}, r"second_momentum must be in \[0, 1\), got 1.0"),
        ({"smoothness": 1.0}, r"smoothness must be in \[0, 1\), got 1.0"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        Gradient(**settings)
