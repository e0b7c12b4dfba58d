"""Goals in order: when one gives way to the next."""

import pytest
import torch

from planning.costs import L1, Discounted, SubGoalProgress, SubGoals
from planning.types import Latent


def at(value):
    """A latent of one number: L1 distances are differences."""
    return Latent(torch.tensor([[float(value)]]))


GOALS = (at(1), at(2), at(3))
NEAR = SubGoals(GOALS, L1(), reached_within=0.25)
TIMED = SubGoals(GOALS, L1(), max_steps=(2, 3))


def test_a_goal_that_is_near_enough_gives_way_to_the_next_and_the_last_stays():
    indices, progress = [], SubGoalProgress()
    for value in (0, 0.7, 0.75, 1.5, 2.1, 3, 3, 9):
        progress = NEAR.after(progress, at(value))
        indices.append(progress.index)
    assert indices == [0, 0, 1, 1, 2, 2, 2, 2]


def test_one_frame_can_show_that_several_goals_are_reached():
    wide = SubGoals(GOALS, L1(), reached_within=1.0)
    assert wide.after(SubGoalProgress(), at(1.5)).index == 2


def test_time_alone_lets_goals_give_way():
    seen = [TIMED.after_all([at(0)] * num_frames) for num_frames in range(1, 9)]
    assert [progress.index for progress in seen] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [progress.num_steps for progress in seen] == [0, 1, 0, 1, 2, 0, 1, 2]


def test_with_both_rules_the_first_that_holds_counts():
    both = SubGoals(GOALS, L1(), reached_within=0.1, max_steps=(2, 3))
    assert both.after_all([at(1)]).index == 1  # reached at once
    assert both.after_all([at(0)] * 3).index == 1  # out of time
    # Out of time with the first in the very step in which the second is reached.
    assert both.after_all([at(0), at(0), at(2)]) == SubGoalProgress(2, 0)


def test_the_progress_of_an_episode_is_a_function_of_what_was_seen():
    seen = [at(value) for value in (0, 1, 1.5, 2, 2.5)]
    step_by_step = SubGoalProgress()
    for position, latent in enumerate(seen):
        step_by_step = NEAR.after(step_by_step, latent, num_steps=min(position, 1))
    assert NEAR.after_all(seen) == NEAR.after_all(seen) == step_by_step == SubGoalProgress(2, 1)


def test_steps_between_frames_are_counted_as_many_as_were_executed():
    assert TIMED.after(SubGoalProgress(), at(0), num_steps=2).index == 1


def test_the_cost_is_the_distance_to_the_goal_of_the_moment():
    imagined = Latent(torch.tensor([[[[1.0]], [[5.0]]]]))  # one sample, two steps
    costs = [NEAR.cost(SubGoalProgress(index))(imagined, None).item() for index in range(3)]
    assert costs == [2, 2, 2]  # means of 0 4, 1 3 and 2 2
    last = SubGoals(GOALS, L1(), reached_within=0.1, reduction="last")
    assert last.cost(SubGoalProgress(1))(imagined, None).item() == 3


def test_one_goal_needs_no_rule_and_never_gives_way():
    alone = SubGoals((at(1),), L1(), reduction=Discounted(0.5))
    assert alone.after_all([at(1)] * 5).index == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goals": ()}, "at least one goal"),
        ({}, "say when a goal gives way to the next: reached_within or max_steps"),
        ({"reached_within": -1.0}, "reached_within must be at least 0, got -1.0"),
        ({"reached_within": float("nan")}, "reached_within must be at least 0, got nan"),
        ({"max_steps": (2,)}, r"each of the 3 goals but the last, got \(2,\)"),
        ({"max_steps": (2, 0)}, r"a number of at least 1 .* got \(2, 0\)"),
        ({"reached_within": 1.0, "reduction": "sum"}, "reduction must be 'mean' or 'last'"),
        (
            {"goals": (at(0), Latent(torch.zeros(2, 1))), "reached_within": 1.0},
            r"all goals must have one shape, got \[\(1, 1\), \(2, 1\)\]",
        ),
    ],
)
def test_goals_and_rules_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SubGoals(**{"goals": GOALS, "distance": L1(), **options})
