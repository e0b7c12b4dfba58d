import pytest
import torch

from planning.actions.model_actions import model_actions
from planning.actions.space import ActionSteps


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("way", ["one_after_the_other", "repeated", "in_equal_parts"])
def test_it_is_the_inverse_of_splitting_a_plan(way, num_steps):
    steps = ActionSteps(num_steps, way)
    dim = 2 * num_steps if way == "one_after_the_other" else 2
    plan = torch.randn(4, dim, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model_actions(steps, steps.split(plan)), plan)


def test_steps_that_differ_inside_a_repeated_action_are_averaged():
    actions = model_actions(ActionSteps(2, "repeated"), torch.tensor([[1.0], [4.0]]))
    assert actions.tolist() == [[2.5]]


def test_steps_that_fill_no_action_repeat_the_last_one():
    three = torch.tensor([[1.0], [2.0], [3.0]])
    side_by_side = model_actions(ActionSteps(2, "one_after_the_other"), three)
    assert side_by_side.tolist() == [[1.0, 2.0], [3.0, 3.0]]
    assert model_actions(ActionSteps(2, "in_equal_parts"), three).tolist() == [[3.0], [6.0]]


@pytest.mark.parametrize("way", ["one_after_the_other", "repeated", "in_equal_parts"])
def test_no_steps_are_no_actions(way):
    assert len(model_actions(ActionSteps(2, way), torch.empty(0, 2))) == 0
