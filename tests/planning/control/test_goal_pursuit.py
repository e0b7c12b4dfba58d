import numpy as np
import pytest
import torch

from planning.actions.space import ActionSpec, ActionSteps
from planning.control.goal_pursuit import ArrivalRule, GoalPursuit, typical_step_distance
from planning.control.mpc import goal_distance
from planning.types import Latent

SPEC = ActionSpec(("dx",), ("metre",), (-2.0,), (2.0,))


class Line:
    """A frame is a number; so is its latent; an action moves it."""

    action_steps, device = ActionSteps(), torch.device("cpu")

    def __init__(self):
        self.encoded = []

    def encode(self, frame, state=None):
        self.encoded.append(float(frame))
        return Latent(torch.tensor([[float(frame)]]))

    def rollout(self, start, actions):
        return Latent(start.tokens + actions.cumsum(1).unsqueeze(2))

    def distance(self, latents, goal):
        return (latents - goal).abs().mean((-2, -1))


def at(place):
    return Latent(torch.tensor([[float(place)]]))


NEAR = ArrivalRule(distance=0.5)


def pursuit(goals, rule=NEAR):
    frames = [np.array(goal) for goal in goals]
    return GoalPursuit(Line(), frames, cost_of=goal_distance(), rule=rule)


def test_each_goal_is_encoded_once_at_the_beginning():
    chase = pursuit([1.0, 5.0, 9.0])
    for step in range(5):
        chase.advance(at(step), step=step, action_spec=SPEC)
    assert chase.world.encoded == [1.0, 5.0, 9.0]


def test_goals_are_pursued_in_order_and_the_last_one_for_ever():
    chase, seen = pursuit([1.0, 5.0]), []
    for step, place in enumerate([0.0, 0.8, 2.0, 5.0, 5.0]):
        chase.advance(at(place), step=step, action_spec=SPEC)
        seen.append((chase.index, chase.distance(at(place))))
    assert seen == [
        (0, 1.0), (1, pytest.approx(4.2)), (1, 3.0), (1, 0.0), (1, 0.0),
    ]  # fmt: skip
    assert chase.is_last


def test_a_sub_goal_out_of_reach_is_given_up_after_so_many_steps():
    chase = pursuit([100.0, 5.0], ArrivalRule(distance=0.5, max_steps=3))
    moved_on = [chase.advance(at(0.0), step=step, action_spec=SPEC) for step in range(5)]
    assert moved_on == [False, False, False, True, False]


def test_the_cost_is_that_of_the_goal_of_the_moment():
    chase = pursuit([1.0, 5.0])
    imagined = Latent(torch.tensor([[[[2.0]]]]))  # one sample, one step
    assert chase.cost(imagined, torch.zeros(1, 1, 1)).item() == 1.0
    chase.advance(at(1.0), step=0, action_spec=SPEC)
    assert chase.cost(imagined, torch.zeros(1, 1, 1)).item() == 3.0


def test_without_a_distance_a_goal_is_reached_within_one_typical_action():
    chase = pursuit([1.0], ArrivalRule())
    assert chase.known_reached_distance is None
    near = chase.reached_distance(at(0.0), SPEC)
    assert 0.7 < near < 1.3  # the median size of uniform actions in [-2, 2] is 1
    assert chase.known_reached_distance == near
    assert typical_step_distance(Line(), at(7.0), SPEC) == pytest.approx(near, abs=1e-5)


class PartlyBroken(Line):
    """Imagines NaN for so many of the actions."""

    def __init__(self, num_broken):
        super().__init__()
        self.num_broken = num_broken

    def rollout(self, start, actions):
        imagined = super().rollout(start, actions)
        imagined.tokens[: self.num_broken] = torch.nan
        return imagined


def test_a_rollout_that_fails_does_not_hide_what_a_typical_action_moves():
    near = typical_step_distance(Line(), at(0.0), SPEC)
    assert typical_step_distance(PartlyBroken(1), at(0.0), SPEC) == pytest.approx(near, rel=0.1)
    assert np.isfinite(typical_step_distance(PartlyBroken(63), at(0.0), SPEC))


def test_a_world_in_which_every_action_fails_is_told():
    with pytest.raises(FloatingPointError, match="all 64 latents that one action leads to are NaN"):
        typical_step_distance(PartlyBroken(64), at(0.0), SPEC)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"distance": 0.0}, "the latent distance of a goal must be above 0, got 0.0"),
        ({"distance": float("nan")}, "must be above 0, got nan"),
        ({"max_steps": 0}, "max_steps of a sub-goal must be at least 1, got 0"),
    ],
)
def test_rules_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ArrivalRule(**options)


def test_no_goal_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one goal image, got none"):
        pursuit([])
