"""What is executed step by step; with plans that come late: test_asynchronous_mpc.py."""

import numpy as np
import pytest

from planning.actions.limits import Gripper
from planning.actions.space import ActionSpec
from planning.control.motion import Motion

LINE = ActionSpec(("dx",), ("m",), (-1.0,), (1.0,))
CAREFUL = ActionSpec(("dx",), ("m",), (-1.0,), (1.0,), max_change=(0.25,))


def moving(spec=LINE, *, stale="continue", max_hold_steps=2, standstill=None, plan=(0.5, 0.75)):
    motion = Motion(stale, max_hold_steps, standstill)
    motion.begin(spec)
    if plan is not None:
        motion.follow(np.array(plan, np.float32).reshape(len(plan), -1))
    return motion


def executed(motion, count):
    return [float(motion.advance()[0][0]) for _ in range(count)]


@pytest.mark.parametrize(
    ("stale", "expected"),
    [
        ("continue", [0.5, 0.75, 0, 0, 0]),
        ("hold", [0.5, 0.75, 0.75, 0.75, 0]),
        ("zero", [0.5, 0.75, 0, 0, 0]),
    ],
)
def test_after_the_plan_comes_what_bridges_the_gap(stale, expected):
    assert executed(moving(stale=stale), 5) == expected


def test_a_late_plan_ends_the_old_one_unless_it_shall_continue():
    for stale, expected in (("continue", 0.75), ("hold", 0.5), ("zero", 0.0)):
        motion = moving(stale=stale)
        motion.advance()
        motion.is_late = True
        assert executed(motion, 1) == [expected]


def test_what_is_upcoming_is_what_will_be_executed_and_nothing_is_executed_by_looking():
    motion = moving(CAREFUL)
    actions, num_moving = motion.upcoming(6)
    assert actions[:, 0].tolist() == executed(motion, 6) == [0.25, 0.5, 0.25, 0, 0, 0]
    assert num_moving == 3


def test_it_is_known_when_nothing_will_move_any_more():
    assert moving(CAREFUL).steps_until_still(20) == 3
    assert moving(CAREFUL).steps_until_still(2) == 2
    assert moving(plan=None).steps_until_still(20) == 1


def test_standing_still_leaves_a_gripper_as_it_is():
    spec = ActionSpec(
        ("dx", "grip"), ("m", "1"), (-1.0, 0.0), (1.0, 1.0), grippers=(Gripper("grip"),)
    )
    motion = moving(spec, standstill=(0.0, 0.0), plan=[[0.5, 1.0]])
    assert motion.before.tolist() == [0.0, 0.0]
    assert [motion.advance()[0].tolist() for _ in range(2)] == [[0.5, 1.0], [0.0, 1.0]]
    assert motion.is_still
