"""iCEM: kept elites, shifted elites, fewer samples, the mean at the end, coloured noise."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from planning.actions.parameterization import SplineKnots
from planning.actions.space import ActionSpec, ActionSteps
from planning.planners.icem import ICEM
from planning.search.space import SearchSpace, WarmStart


def rows_in(rows, batch):
    """How many of the rows are in the batch, to the last bit."""
    return sum(bool((batch == row).all((1, 2)).any()) for row in rows)


def test_each_round_draws_fewer_but_not_fewer_than_twice_the_elites(make_problem):
    problem = make_problem((1.5, -0.8))
    planner = ICEM(horizon=3, num_samples=100, num_elites=10, num_iterations=8, decay=1.5)
    problem.solved_by(planner)
    drawn = [100, 66, 44, 29, 20, 20, 20, 20]
    assert [planner.num_drawn(iteration) for iteration in range(8)] == drawn
    kept = [0] + [3] * 7  # 0.3 of 10
    imagined = [len(batch) for batch in problem.world.imagined]
    assert imagined == [new + old for new, old in zip(drawn, kept, strict=True)]


def test_elites_of_a_round_are_imagined_again_in_the_next(make_problem):
    problem = make_problem((1.5, -0.8))
    problem.solved_by(ICEM(horizon=3, num_samples=50, num_elites=10, kept_share=0.4))
    batches = problem.world.imagined[:]
    for before, after in pairwise(batches):
        costs = [problem.cost_of(actions) for actions in before]
        best = before[np.argsort(costs)[:4]]
        assert torch.equal(after[-4:], best)


def test_elites_of_the_plan_before_are_imagined_shifted(make_problem):
    problem = make_problem((1.5, -0.8))
    planner = ICEM(horizon=4, num_samples=50, num_elites=10, kept_share=0.5)
    previous = problem.solved_by(planner)
    assert previous.elites.shape == (10, 4, 2)
    problem.world.imagined.clear()
    problem.solved_by(planner, previous_plan=previous, executed_steps=1)
    first = problem.world.imagined[0]
    shifted = torch.cat((previous.elites[:5, 1:], previous.elites[:5, -1:]), 1)
    assert torch.equal(first[-5:], shifted)


def test_elites_are_shifted_all_at_once_as_each_would_be_alone(make_problem):
    space = SearchSpace.of(
        make_problem((0.0, 0.0)).action_spec, 6, like=torch.zeros(1),
        parameterization=SplineKnots(3),
    )  # fmt: skip
    elites = torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(0))
    together = WarmStart.after(elites[0], 2, space=space, elites=elites)
    alone = [WarmStart.after(elite, 2, space=space).sequence for elite in elites]
    torch.testing.assert_close(together.elites, torch.stack(alone), atol=1e-6, rtol=0)
    elites[3, 1, 0] = torch.nan
    with pytest.raises(ValueError, match="the previous plan has an action that is NaN"):
        WarmStart.after(elites[0], 2, space=space, elites=elites)


def test_the_mean_is_a_candidate_of_the_first_and_of_the_last_round(make_problem):
    problem = make_problem((1.5, -0.8))
    planner = ICEM(horizon=3, num_samples=50, num_elites=5, num_iterations=4)
    problem.solved_by(planner)
    batches = problem.world.imagined[:]
    shorter = problem.solved_by(ICEM(horizon=3, num_samples=50, num_elites=5, num_iterations=3))
    assert torch.equal(batches[0][0], torch.zeros(3, 2))
    is_mean_in = [rows_in(shorter.mean[None], batch) for batch in batches]
    assert is_mean_in[-1] == 1


def slow_refit(mean, std, elites, momentum, floor):
    """With loops over plain numbers."""
    for t in range(mean.shape[0]):
        for d in range(mean.shape[1]):
            values = [float(elite[t, d]) for elite in elites]
            middle = sum(values) / len(values)
            spread = (sum((value - middle) ** 2 for value in values) / len(values)) ** 0.5
            mean[t, d] = momentum * mean[t, d] + (1 - momentum) * middle
            std[t, d] = max(momentum * std[t, d] + (1 - momentum) * spread, floor[d])


def test_mean_and_std_follow_a_slow_reference(make_problem):
    problem = make_problem((1.5, -4.0), low=(-1, -2), high=(1, 2), reduction="mean")
    planner = ICEM(horizon=3, num_samples=40, num_elites=7, momentum=0.2, min_std=0.03)
    plan = problem.solved_by(planner)
    half_range = np.array([1.0, 2.0])
    mean, std = np.zeros((3, 2)), np.full((3, 2), planner.initial_std) * half_range
    for batch in problem.world.imagined[:]:
        costs = [problem.cost_of(actions) for actions in batch]
        elites = batch[np.argsort(costs)[:7]].numpy()
        slow_refit(mean, std, elites, 0.2, 0.03 * half_range)
    np.testing.assert_allclose(plan.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plan.spread, std, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("exponent", "least", "most"), [(0.0, -0.1, 0.1), (3.0, 0.8, 1.0)])
def test_its_noise_has_the_colour_that_was_asked_for(make_problem, exponent, least, most):
    problem = make_problem((0.0,), low=(-100.0,), high=(100.0,))
    planner = ICEM(
        horizon=8, num_samples=4000, num_iterations=1, initial_std=0.05, noise_exponent=exponent
    )
    problem.solved_by(planner)
    noise = problem.world.imagined[0][..., 0]
    assert least < np.corrcoef(noise[:, 3], noise[:, 4])[0, 1] < most
    assert noise.std(0).numpy() == pytest.approx([5.0] * 8, rel=0.05)


def test_its_noise_runs_over_the_steps_of_the_environment(make_problem):
    """An action of the model is two of the environment, side by side: a@0, b@0, a@1, b@1."""
    one_step = ActionSpec(("a", "b"), ("1", "1"), (-100.0, -100.0), (100.0, 100.0))
    spec = ActionSteps(2).joined(one_step)
    problem = replace(make_problem((0.0,) * 4), action_spec=spec)
    planner = ICEM(horizon=4, num_samples=4000, num_iterations=1, initial_std=0.05)
    problem.solved_by(planner)
    noise = problem.world.imagined[0].reshape(4000, 8, 2)  # (samples, environment steps, dim)
    correlation = np.corrcoef(noise[..., 0].T.numpy())
    assert all(correlation[step, step + 1] > 0.7 for step in range(7))  # also from action to action
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1]) < 0.06


def test_slow_noise_goes_further_than_white_noise(make_problem):
    """To a goal 8 steps away: white noise averages out, slow noise adds up."""
    problem = make_problem((6.4,))
    costs = {
        exponent: problem.solved_by(
            ICEM(horizon=8, num_iterations=1, noise_exponent=exponent, initial_std=0.4)
        ).cost
        for exponent in (0.0, 2.5)
    }
    assert costs[2.5] < 0.5 * costs[0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        (
            {"num_elites": 40, "num_samples": 64},
            "num_elites=40 exceeds half of num_samples=64; raise num_samples or lower num_elites",
        ),
        ({"decay": 0.9}, "decay must be at least 1 and noise_exponent at least 0, got 0.9 and 2.0"),
        ({"decay": float("nan")}, "decay must be at least 1"),
        ({"noise_exponent": -1.0}, "noise_exponent at least 0, got 1.25 and -1.0"),
        ({"kept_share": 1.0}, r"kept_share must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"min_std": 0.0}, "min_std must be positive and finite, got 0.0"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        ICEM(**settings)
