"""Specs that contradict themselves, each refused in one line that says where."""

import pytest

from planning.actions.limits import Gripper, NormLimit, StepBounds
from planning.actions.space import ActionSpec

NAN = float("nan")


def line(**limits):
    return ActionSpec(("a",), ("1",), (-4.0,), (4.0,), **limits)


def arm(**limits):
    units, low, high = ("metre", "metre", "1"), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0)
    return ActionSpec(("x", "y", "grip"), units, low, high, **limits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: line(kind="two_hot"), "kind must be 'continuous' or 'one_hot', got 'two_hot'"),
        (lambda: line(max_change=(1.0, 1.0)), r"max_change must be 1 numbers above 0 .* got \(1.0"),
        (lambda: line(max_change=(0.0,)), r"max_change must be 1 numbers above 0 .* got \(0.0"),
        (lambda: line(max_change=(NAN,)), "max_change must be 1 numbers above 0"),
        (lambda: line(kind="one_hot"), r"so low must be 0 and high 1, got \(-4.0,\) and \(4.0,\)"),
        (
            lambda: ActionSpec(("a",), ("1",), (0.0,), (1.0,), "one_hot", max_change=(1.0,)),
            "choices .* have no max_change, norm_limits, grippers or step_bounds; leave them out",
        ),
        (
            lambda: arm(norm_limits=(NormLimit(("x", "z"), 1.0),)),
            r"norm_limits must name dimensions of .*, each once, got \('x', 'z'\)",
        ),
        (
            lambda: arm(norm_limits=(NormLimit(("x",), 1.0), NormLimit(("x", "y"), 1.0))),
            "norm_limits must name dimensions .* each once",
        ),
        (
            lambda: ActionSpec(
                ("a",), ("1",), (2.0,), (3.0,), norm_limits=(NormLimit(("a",), 1.0),)
            ),
            "low and high leave no action whose .* norm of at most 1.0, the shortest has 2",
        ),
        (lambda: arm(grippers=(Gripper("hand"),)), r"grippers must name .* got \('hand',\)"),
        (
            lambda: arm(grippers=(Gripper("grip"),), max_change=(1.0, 1.0, 0.5)),
            "gripper 'grip' jumps from value to value, so it can have no .* max_change, got 0.5",
        ),
        (
            lambda: arm(grippers=(Gripper("x"),), norm_limits=(NormLimit(("x",), 1.0),)),
            "gripper 'x' jumps from value to value, so it can have no norm limit",
        ),
        (
            lambda: arm(grippers=(Gripper("grip", threshold=1.5),)),
            r"the threshold of gripper 'grip' must be in \(0.0, 1.0\], got 1.5",
        ),
        (
            lambda: arm(
                grippers=(Gripper("grip"),),
                step_bounds=(StepBounds(0, (-1.0, -1.0, 0.2), (1.0, 1.0, 0.8)),),
            ),
            r"step_bounds from step 0 on of gripper 'grip' are \[0.2, 0.8\], where it snaps to",
        ),
        (
            lambda: line(step_bounds=(StepBounds(0, (0.0, 0.0), (1.0, 1.0)),)),
            "step_bounds from step 0 on must have 1 values, got 2 and 2",
        ),
        (
            lambda: line(step_bounds=(StepBounds(3, (-5.0,), (1.0,)),)),
            r"from step 3 on must be inside \[-4.0, 4.0\] for 'a', got \[-5.0, 1.0\]",
        ),
        (lambda: line(step_bounds=(StepBounds(3, (1.0,), (0.0,)),)), r"got \[1.0, 0.0\]"),
        (
            lambda: line(
                step_bounds=(StepBounds(2, (0.0,), (1.0,)), StepBounds(2, (0.0,), (1.0,)))
            ),
            r"first_step of step_bounds must increase from 0 on, got \[2, 2\]",
        ),
        (
            lambda: line(
                max_change=(1.0,),
                step_bounds=(StepBounds(1, (-4.0,), (-4.0,)), StepBounds(2, (4.0,), (4.0,))),
            ),
            r"with max_change=\(1.0,\) no plan keeps step_bounds at step 1",
        ),
        (
            lambda: arm(
                norm_limits=(NormLimit(("x", "y"), 0.5),),
                step_bounds=(StepBounds(0, (0.9, -1.0, 0.0), (1.0, 1.0, 1.0)),),
            ),
            "step_bounds from step 0 on leave no action whose .* the shortest has 0.9",
        ),
        (lambda: line(parts=0), "parts must be at least 1, got 0"),
        (
            lambda: line(one_step=arm()),
            "an action of 1 continuous dimensions cannot be several of 3 continuous ones",
        ),
        (
            lambda: line(one_step=line(), max_change=(1.0,)),
            "an action of several steps has the limits of its one_step; give max_change",
        ),
    ],
)
def test_limits_that_contradict_each_other_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_contradict_itself_is_kept_as_it_is():
    spec = arm(
        max_change=(0.1, 0.1, float("inf")),
        norm_limits=(NormLimit(("x", "y"), 0.5),),
        grippers=(Gripper("grip"),),
        step_bounds=(StepBounds(2, (0.0, 0.0, 1.0), (0.5, 0.5, 1.0)),),
    )
    assert spec.max_change == (0.1, 0.1, float("inf"))
    assert spec.step_bounds[0].first_step == 2
    assert hash(spec) == hash(
        arm(
            **{
                name: getattr(spec, name)
                for name in ("max_change", "norm_limits", "grippers", "step_bounds")
            }
        )
    )
