"""CMA-ES: that the library is asked and told rightly."""

import warnings

import numpy as np
import pytest
import torch

from planning.planners.cma_es import CMAES, _finite


def test_it_asks_for_its_samples_and_the_mean_in_every_round(make_problem):
    problem = make_problem((1.5, -0.8))
    plan = problem.solved_by(CMAES(horizon=3, num_samples=10, num_iterations=4))
    assert [len(batch) for batch in problem.world.imagined] == [11] * 4
    assert plan.num_rollouts == 44
    assert torch.equal(problem.world.imagined[0][0], torch.zeros(3, 2))


def test_the_mean_is_imagined_again_in_every_round(make_problem):
    problem = make_problem((1.5, -0.8))
    problem.solved_by(CMAES(horizon=3, num_iterations=4))
    batches = problem.world.imagined[:]
    for rounds in (1, 2, 3):
        shorter = problem.solved_by(CMAES(horizon=3, num_iterations=rounds))
        assert torch.equal(batches[rounds][0], shorter.mean)


def test_its_first_samples_have_the_std_that_was_asked_for_in_the_units_of_the_actions(
    make_problem, make_plan
):
    problem = make_problem((0.0, 0.0), low=(-100.0, -0.1), high=(100.0, 0.1))
    planner = CMAES(horizon=3, num_samples=2000, num_iterations=1, initial_std=0.05, warm_std=0.01)
    previous = make_plan([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    plan = problem.solved_by(planner, previous_plan=previous, executed_steps=1)
    stds = problem.world.imagined[0][1:].std(0)
    np.testing.assert_allclose(stds[:, 0], [1.0, 1.0, 5.0], rtol=0.1)
    np.testing.assert_allclose(stds[:, 1], [0.001, 0.001, 0.005], rtol=0.1)
    np.testing.assert_allclose(plan.spread, stds, rtol=0.9)  # adapted by one round, same units


def test_it_learns_that_two_actions_must_change_together(make_problem):
    """A long narrow valley, x + y = 0.9 with a slope along it to (0.9, 0): 1000 times steeper
    across. The optimum is found much better than by CEM, which knows no correlations."""
    from planning.planners.cem import CEM

    problem = make_problem((0.9,))

    def valley(imagined, actions):
        x, y = actions[:, 0, 0], actions[:, 1, 0]
        return 1000 * (x + y - 0.9).square() + (x - y - 0.9).square()

    found = problem.solved_by(CMAES(horizon=2, num_samples=16, num_iterations=40), cost=valley)
    sampled = CEM(horizon=2, num_samples=68, num_elites=8, num_iterations=10, min_std=1e-4)
    assert found.actions.flatten().numpy() == pytest.approx([0.9, 0.0], abs=1e-3)
    assert found.cost < 0.1 * problem.solved_by(sampled, cost=valley).cost


def test_the_order_of_costs_is_all_it_looks_at(make_problem):
    problem = make_problem((1.5, -0.8))
    planner = CMAES(horizon=2, num_iterations=6)
    plan = problem.solved_by(planner)
    exponential = problem.solved_by(planner, cost=lambda i, a: problem.cost(i, a).double().exp())
    assert torch.equal(plan.actions, exponential.actions)


def test_costs_that_are_ruled_out_are_told_as_the_worst():
    told = _finite(torch.tensor([2.0, torch.inf, -5.0]))
    assert told[0] == 2.0
    assert told[2] == -5.0
    assert 2.0 < told[1] < torch.inf
    assert _finite(torch.tensor([torch.inf] * 3)) == [0.0] * 3


def test_one_action_of_one_dimension_is_searched_too(make_problem):
    """The library needs two dimensions at least; the second is of no account."""
    plan = make_problem((0.3,)).solved_by(CMAES(horizon=1))
    assert plan.actions.item() == pytest.approx(0.3, abs=1e-3)
    assert plan.spread.shape == (1, 1)


def test_bounds_of_very_different_size_are_searched_alike(make_problem):
    problem = make_problem((250.0, 0.0003), low=(-1000.0, -0.001), high=(1000.0, 0.001))

    def relative(imagined, actions):
        end = imagined.tokens[:, -1, 0]
        return (
            ((end - torch.tensor([250.0, 0.0003])) / torch.tensor([1000, 0.001])).square().sum(-1)
        )

    plan = problem.solved_by(CMAES(horizon=1), cost=relative)
    np.testing.assert_allclose(plan.actions[0], [250, 0.0003], rtol=0.02)


def test_it_writes_no_file_and_says_nothing(make_problem, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_problem((0.3, 0.2)).solved_by(CMAES(horizon=2, num_iterations=3))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 2}, "num_samples must be at least 3, got 2"),
        ({"num_iterations": 0}, "num_iterations must be at least 1, got 0"),
        ({"initial_std": 0.0}, "initial_std must be positive and finite, got 0.0"),
        ({"warm_std": float("nan")}, "warm_std must be positive and finite, got nan"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        CMAES(**settings)
