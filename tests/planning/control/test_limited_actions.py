"""Narrower limits: what they become, what is executed, and which ones are refused."""

import math
from typing import cast

import numpy as np
import pytest
import torch

from planning.actions.limits import Gripper, NormLimit, StepBounds
from planning.actions.space import ActionSpec
from planning.control.limited_actions import ActionLimits, LimitedActions
from planning.types import Environment

ARM = ActionSpec(
    ("dx", "dz", "grip"),
    ("m", "m", "1"),
    (-1.0, -1.0, 0.0),
    (1.0, 1.0, 1.0),
    max_change=(0.5, math.inf, math.inf),
    norm_limits=(NormLimit(("dx", "dz"), 0.9),),
    grippers=(Gripper("grip"),),
    step_bounds=(StepBounds(2, (-1.0, -0.2, 0.0), (0.0, 1.0, 1.0)),),
)


def test_bounds_become_narrower_and_everything_else_stays():
    spec = ActionLimits({"dx": (-0.3, 0.4), "dz": (-math.inf, 0.1)}).of(ARM)
    assert spec.low == (-0.3, -1.0, 0.0) and spec.high == (0.4, 0.1, 1.0)
    assert spec.max_change == ARM.max_change
    assert spec.norm_limits == ARM.norm_limits and spec.grippers == ARM.grippers
    (bounds,) = spec.step_bounds
    assert bounds == StepBounds(2, (-0.3, -0.2, 0.0), (0.0, 0.1, 1.0))


def test_of_two_largest_changes_the_smaller_one_counts():
    assert ActionLimits(max_change={"dx": 0.7, "dz": 0.2}).of(ARM).max_change == (
        0.5,
        0.2,
        math.inf,
    )
    assert ActionLimits(max_change={"dx": 0.1}).of(ARM).max_change[0] == 0.1
    free = ActionSpec(("a", "b"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0))
    assert ActionLimits(max_change={"b": 0.1}).of(free).max_change == (math.inf, 0.1)


def test_without_limits_nothing_changes():
    assert ActionLimits().of(ARM) is ARM
    assert not ActionLimits() and ActionLimits({"dx": (0.0, 1.0)})


def test_whatever_is_planned_keeps_all_limits():
    spec = ActionLimits({"dx": (-0.3, 0.4)}, {"dz": 0.1}).of(ARM)
    actions = spec.limit(torch.randn(64, 6, 3, generator=torch.Generator().manual_seed(0)) * 2)
    assert actions[..., 0].min() >= -0.3 and actions[..., 0].max() <= 0.4
    assert actions[..., 1].diff(dim=1).abs().max() <= 0.1 + 1e-6
    assert actions[..., :2].norm(dim=-1).max() <= 0.9 + 1e-6


def test_the_environment_executes_no_action_beyond_them(rooms):
    room = rooms(max_steps=7)
    limited = LimitedActions(room, ActionLimits({"dx": (-0.5, 1.0)}))
    limited.reset(np.random.default_rng(0), start=np.array([8.0, 8.0]), goal=np.array([8.0, 24.0]))
    state = limited.step(np.array([2.5, 2.0], np.float32)).state
    assert state.tolist() == pytest.approx([9.0, 10.0])
    assert limited.action_spec.low == (-0.5, -2.5)
    environment = cast("Environment", limited)  # the rest is the room's own
    assert environment.max_steps == 7 and environment.name == "two_rooms"
    assert environment.distance_to_goal() == pytest.approx(math.hypot(1.0, 14.0))
    assert environment.goal is room.goal


CHOICES = ActionSpec(("left", "wait"), ("1", "1"), (0.0, 0.0), (1.0, 1.0), kind="one_hot")


@pytest.mark.parametrize(
    ("spec", "limits", "match"),
    [
        (ARM, {"bounds": {"dy": (0, 1)}}, "no action dimension 'dy' to limit; there are: dx, dz"),
        (ARM, {"bounds": {"dx": (-2, 1)}}, "wider than the environment's, -1:1; limits can only"),
        (ARM, {"bounds": {"dx": (-1, 1.01)}}, "the limits -1:1.01 of 'dx' are wider"),
        (ARM, {"bounds": {"dx": (1, math.inf)}}, "'dx' leave nothing of the environment's -1:1"),
        (ARM, {"bounds": {"dx": (0.5, 0.5)}}, "'dx' must be low < high, got 0.5:0.5"),
        (ARM, {"bounds": {"dx": (math.nan, 1)}}, "'dx' must be low < high, got nan:1"),
        (ARM, {"max_change": {"dx": 0.0}}, "largest change of 'dx' must be above 0, got 0"),
        (ARM, {"max_change": {"dx": math.nan}}, "must be above 0, got nan"),
        (ARM, {"bounds": {"grip": (0, 0.5)}}, "gripper 'grip' is open or closed"),
        (ARM, {"max_change": {"grip": 0.5}}, "gripper 'grip' is open or closed"),
        (ARM, {"bounds": {"dx": (0.9, 1), "dz": (0.9, 1)}}, "leave no action whose"),
        (CHOICES, {"bounds": {"left": (0, 0.5)}}, r"choices \(left, wait\), which have no limits"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(spec, limits, match):
    with pytest.raises(ValueError, match=match):
        ActionLimits(**limits).of(spec)
