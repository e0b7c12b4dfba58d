import numpy as np
import pytest

from planning.actions.limits import Gripper, NormLimit
from planning.actions.space import ActionSpec
from planning.actions.standstill import come_to_rest, keeps_limits, standing_still
from planning.types import TimeStep

ARM = ActionSpec(("dx", "dy"), ("m",) * 2, (-1.0, 0.25), (1.0, 1.0), max_change=(0.4, np.inf))
HAND = ActionSpec(("dx", "grip"), ("m", "1"), (-1.0, -1.0), (1.0, 1.0), grippers=(Gripper("grip"),))
CHOICES = ActionSpec(("left", "wait"), ("1",) * 2, (0.0,) * 2, (1.0,) * 2, kind="one_hot")


def test_standing_still_is_the_zero_action_inside_the_bounds():
    assert standing_still(ARM, last=np.ones(2)).tolist() == [0.0, 0.25]


@pytest.mark.parametrize("grip", [-1.0, 1.0])
@pytest.mark.parametrize("standstill", [None, (0.0, 1.0)])
def test_a_binary_gripper_stays_as_it_is(grip, standstill):
    still = standing_still(HAND, last=np.array([0.7, grip]), standstill=standstill)
    assert still.tolist() == [0.0, grip]


def test_a_gripper_with_a_dead_zone_stands_still_at_zero():
    spec = ActionSpec(
        ("grip",), ("1",), (-1.0,), (1.0,), grippers=(Gripper("grip", "dead_zone", 0.25),)
    )
    assert standing_still(spec, last=np.ones(1)).tolist() == [0.0]


def test_what_has_no_zero_must_be_told():
    with pytest.raises(ValueError, match="nothing was executed yet; give standstill="):
        standing_still(HAND, last=None)
    assert standing_still(HAND, last=None, standstill=(0.0, 1.0)).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"choices \(left, wait\) have no zero action"):
        standing_still(CHOICES, last=np.array([1.0, 0.0]))
    assert standing_still(CHOICES, last=None, standstill=(0.0, 1.0)).tolist() == [0.0, 1.0]


def test_a_standstill_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"action must have shape \(2,\), got \(3,\)"):
        standing_still(ARM, last=None, standstill=(0.0, 1.0, 0.0))


LIMITED = ActionSpec(
    ("dx", "dy", "grip"),
    ("m", "m", "1"),
    (-1.0, -1.0, 0.0),
    (1.0, 1.0, 1.0),
    max_change=(0.5, 0.5, np.inf),
    norm_limits=(NormLimit(("dx", "dy"), 0.8),),
    grippers=(Gripper("grip"),),
)


def test_what_keeps_the_limits_is_what_comes_back_as_it_is():
    generator, counts = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(200):
        before = LIMITED.sample(generator)
        action = generator.uniform(-1.1, 1.1, 3) * [0.6, 0.6, 0.0] + [0, 0, generator.choice(3) / 2]
        allowed = LIMITED.validate(action, before)
        keeps = np.allclose(allowed, action, atol=1e-6)
        assert keeps_limits(LIMITED, action, before) == keeps
        assert keeps_limits(LIMITED, allowed, before)
        counts[keeps] += 1
    assert min(counts.values()) > 20


class Told:
    action_spec = ARM

    def __init__(self, ends_after=99):
        self.commands, self.ends_after = [], ends_after

    def step(self, action):
        self.commands.append([round(float(value), 4) for value in action])
        is_last = len(self.commands) >= self.ends_after
        return TimeStep(np.zeros((1, 1, 3), np.uint8), np.zeros(1), False, is_last)


def test_coming_to_rest_takes_as_many_steps_as_the_largest_change_demands():
    robot, beats = Told(), []
    last = np.array([1.0, 1.0])
    come_to_rest(robot, np.zeros(2), last=last, pace=lambda: beats.append(len(robot.commands)))
    assert robot.commands == [[0.6, 0.25], [0.2, 0.25], [0.0, 0.25]]
    assert beats == [1, 2]


def test_an_environment_that_ends_meanwhile_is_left_alone():
    robot = Told(ends_after=2)
    come_to_rest(robot, np.zeros(2), last=np.array([1.0, 1.0]))
    assert len(robot.commands) == 2
