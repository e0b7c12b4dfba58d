"""What is chosen of a sequence, by hand."""

import pytest
import torch

from planning.actions.parameterization import PerStep, Repeat, SplineKnots


def actions_of(parameterization, choices, horizon):
    return (parameterization.weights(horizon) @ torch.tensor(choices).double()).tolist()


def test_per_step_every_action_is_a_choice():
    assert actions_of(PerStep(), [1.0, 2.0, 3.0], 3) == [1, 2, 3]
    assert PerStep().first_steps(3) == (0, 1, 2)


def test_a_repeated_choice_is_held_and_the_last_one_for_what_is_left():
    assert actions_of(Repeat(2), [1.0, 2.0, 3.0], 5) == [1, 1, 2, 2, 3]
    assert Repeat(2).first_steps(5) == (0, 2, 4)
    assert actions_of(Repeat(9), [1.0], 3) == [1, 1, 1]


def test_knots_are_joined_by_lines_or_curves():
    assert actions_of(SplineKnots(2, "linear"), [0.0, 3.0], 4) == pytest.approx([0, 1, 2, 3])
    # Natural cubic through (0, 0), (2, 1), (4, 0): 1.5 t / 2 - 0.5 (t / 2)^3 on the first half.
    half = 1.5 * 0.5 - 0.5 * 0.5**3
    values = actions_of(SplineKnots(3), [0.0, 1.0, 0.0], 5)
    assert values == pytest.approx([0, half, 1, half, 0], abs=1e-12)
    assert actions_of(SplineKnots(1), [2.0], 3) == [2, 2, 2]
    assert SplineKnots(3).first_steps(5) == (0, 2, 4)


@pytest.mark.parametrize("horizon", [1, 2, 5, 8, 13])
def test_different_choices_make_different_actions(horizon):
    """Full column rank: without it choices could not be told from the actions."""
    counts = range(1, horizon + 1)
    made = [PerStep(), *(Repeat(count) for count in counts)]
    orders = ("linear", "cubic", "monotone")
    made += [SplineKnots(count, order) for count in counts for order in orders]
    for parameterization in made:
        weights = parameterization.weights(horizon)
        assert weights.shape == (horizon, len(parameterization.first_steps(horizon)))
        assert torch.linalg.matrix_rank(weights) == weights.shape[1], parameterization


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Repeat(0), "num_steps must be at least 1, got 0"),
        (lambda: SplineKnots(0), "num_knots must be at least 1, got 0"),
        (lambda: SplineKnots(2, "quintic"), "one of 'linear', 'cubic', 'monotone', got 'quintic'"),
        (lambda: SplineKnots(4).first_steps(3), "num_knots must be from 1 to the horizon 3, got 4"),
    ],
)
def test_choices_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
