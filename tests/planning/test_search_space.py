"""Bounds of sequences, and what is left of a plan, by hand."""

import pytest
import torch

from planning.action_space import ActionSpec
from planning.search_space import SearchSpace, WarmStart, first_distribution

SPEC = ActionSpec(("a", "b"), ("1", "1"), (-1.0, 2.0), (3.0, 3.0))
LINE = ActionSpec(("a",), ("1",), (-4.0,), (4.0,))


def space_of(spec=SPEC, horizon=3):
    return SearchSpace.of(spec, horizon, like=torch.zeros(1))


def test_every_step_has_the_bounds_of_the_actions():
    space = space_of()
    assert space.low.tolist() == [[-1, 2]] * 3
    assert space.high.tolist() == [[3, 3]] * 3
    assert space.middle.tolist() == [[1, 2.5]] * 3
    assert space.half_range.tolist() == [[2, 0.5]] * 3


def test_sequences_are_clipped_each_by_itself():
    clipped = space_of(horizon=1).clip(torch.tensor([[[-5.0, 9.0]], [[0.5, 2.5]]]))
    assert clipped.tolist() == [[[-1, 3]], [[0.5, 2.5]]]


def test_a_search_begins_in_the_middle_with_a_share_of_the_range():
    mean, std = first_distribution(space_of(), None, std=0.5, warm_std=9.0)
    assert mean.tolist() == [[1, 2.5]] * 3
    assert std.tolist() == [[1, 0.25]] * 3


def test_after_a_plan_it_is_narrow_where_the_plan_reaches_and_wide_beyond():
    space = space_of(LINE)
    warm = WarmStart.after(torch.tensor([[1.0], [2.0], [3.0]]), 1, space=space)
    mean, std = first_distribution(space, warm, std=0.5, warm_std=0.25)
    assert mean.flatten().tolist() == [2, 3, 3]
    assert std.flatten().tolist() == [1, 1, 2]


@pytest.mark.parametrize(("steps", "left", "planned"), [(0, [1, 2, 3], 3), (3, [3, 3, 3], 0)])
def test_nothing_and_everything_may_have_been_executed(steps, left, planned):
    warm = WarmStart.after(torch.tensor([[1.0], [2.0], [3.0]]), steps, space=space_of(LINE))
    assert (warm.sequence.flatten().tolist(), warm.num_planned) == (left, planned)


def test_a_plan_of_another_horizon_is_refused():
    with pytest.raises(ValueError, match=r"has actions \(4, 1\), this planner's are \(3, 1\)"):
        WarmStart.after(torch.zeros(4, 1), 1, space=space_of(LINE))
