"""Categorical CEM: draws, refits, floors and warm starts of choices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSpec
from planning.planners.categorical_cem import CategoricalCEM, draw_choices


@pytest.fixture
def make_choices(make_problem):
    """Three choices; the cost is the squared distance of how often each is made to the goal."""

    def make(*goal):
        spec = ActionSpec(
            ("left", "right", "stay"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, kind="one_hot"
        )
        return replace(make_problem(goal), action_spec=spec)

    return make


def test_choices_are_drawn_as_often_as_is_probable():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    drawn = draw_choices(probabilities, 20_000, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 3, 3)
    assert (drawn.sum(-1) == 1).all()
    np.testing.assert_allclose(drawn.mean(0), probabilities, atol=0.015)
    assert drawn.mean(0)[1].tolist() == [0, 1, 0]  # what is impossible is never drawn


def test_steps_are_drawn_independently():
    drawn = draw_choices(
        torch.full((2, 2), 0.5), 20_000, generator=torch.Generator().manual_seed(0)
    )
    both = (drawn[:, 0, 0] * drawn[:, 1, 0]).mean().item()
    assert both == pytest.approx(0.25, abs=0.015)


def test_probabilities_follow_a_slow_reference(make_choices):
    problem = make_choices(2.0, 1.0, 1.0)
    planner = CategoricalCEM(
        horizon=4,
        num_samples=50,
        num_elites=6,
        num_iterations=3,
        momentum=0.2,
        min_probability=0.06,
    )
    shares = []
    original = CategoricalCEM._floored

    def noted(self, probabilities):
        shares.append(original(self, probabilities))
        return shares[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CategoricalCEM, "_floored", noted)
        problem.solved_by(planner)
    expected = np.full((4, 3), 1 / 3)
    for batch, probabilities in zip(problem.world.imagined[:], shares, strict=True):
        costs = torch.tensor([problem.cost_of(actions) for actions in batch])
        elites = batch[costs.topk(6, largest=False).indices]
        for t in range(4):
            for c in range(3):
                share = sum(float(elite[t, c]) for elite in elites) / 6
                mixed = 0.2 * expected[t, c] + 0.8 * share
                expected[t, c] = 0.94 * mixed + 0.06 / 3
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_no_choice_is_ever_given_up(make_choices):
    """All elites stay; after many rounds the others still have their share of the floor."""
    problem = make_choices(0.0, 0.0, 2.0)
    plan = problem.solved_by(CategoricalCEM(horizon=2, num_iterations=20, min_probability=0.3))
    assert plan.actions.tolist() == [[0, 0, 1]] * 2
    last = problem.world.imagined[-1]
    assert 0.05 < last[:, 0, 0].mean() < 0.2  # near 0.3 / 3
    assert plan.spread[0, 2].item() == pytest.approx((0.8 * 0.2) ** 0.5, abs=0.1)


def test_the_first_sequence_is_the_most_probable_one(make_choices, make_plan):
    problem = make_choices(0.0, 2.0, 0.0)
    previous = make_plan([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    problem.solved_by(
        CategoricalCEM(horizon=2, num_iterations=1), previous_plan=previous, executed_steps=0
    )
    assert torch.equal(problem.world.imagined[0][0], previous.actions)


def test_planned_steps_are_drawn_with_warm_probability_and_new_ones_evenly(make_choices, make_plan):
    problem = make_choices(0.0, 2.0, 0.0)
    planner = CategoricalCEM(
        horizon=2, num_samples=20_000, num_iterations=1, warm_probability=0.7, min_probability=0.0
    )
    previous = make_plan([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    problem.solved_by(planner, previous_plan=previous, executed_steps=1)
    drawn = problem.world.imagined[0].mean(0)
    np.testing.assert_allclose(drawn[0], [0.1, 0.8, 0.1], atol=0.015)
    np.testing.assert_allclose(drawn[1], [1 / 3] * 3, atol=0.015)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_elites": 0}, "num_elites must be at least 1, got 0"),
        ({"num_elites": 80, "num_samples": 64}, "num_elites=80 exceeds num_samples=64; raise"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"min_probability": 1.0}, r"min_probability must be in \[0, 1\), got 1.0"),
        ({"warm_probability": -0.1}, r"warm_probability must be in \[0, 1\), got -0.1"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        CategoricalCEM(**settings)
