"""What is sent is inside the box, the rate and the workspace, whatever was asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from planning.actions.limits import NormLimit
from planning.actions.space import ActionSpec
from planning.safety.robot_limits import LastFilter, RobotLimits, longest_step
from planning.safety.safe_stop import RefusedAction, SafeStop

SPEC = ActionSpec(
    ("dx", "dy"), ("metre/step",) * 2, (-0.5, -0.5), (0.5, 0.5),
    norm_limits=(NormLimit(("dx", "dy"), 0.6),),
)  # fmt: skip


@pytest.mark.parametrize(("distance", "change"), [(1.0, 0.1), (0.35, 0.1), (3.0, 1.0), (0.01, 5.0)])
def test_from_the_longest_step_one_comes_to_rest_just_before_the_wall(distance, change):
    step = longest_step(distance, change)
    covered = sum(max(0.0, step - number * change) for number in range(1000))
    assert covered == pytest.approx(distance, rel=1e-4)
    assert longest_step(-0.1, change) == 0.0


def test_a_robot_seen_outside_of_its_workspace_is_stopped(robot_limits):
    last_filter = LastFilter(SPEC, robot_limits, ("x", "y"))
    last_filter.refuse_outside(np.array([1.0, -0.5], np.float32))
    with pytest.raises(SafeStop, match=r"stopped \(workspace\): state 0 is 1.1, outside -1 to 1"):
        last_filter.refuse_outside(np.array([1.1, 0.0], np.float32))


GOOD = {"max_change": {"dx": 0.2, "dy": 0.1}, "workspace": {"x": (-1, 1)}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_change": {"dx": math.nan, "dy": 1}}, "max_change of 'dx' must be above 0, got nan"),
        ({"max_change": {"dx": -1, "dy": 1}}, "must be above 0, got -1"),
        ({"max_change": {"dx": True, "dy": 1}}, "must be above 0, got True"),
        ({"max_change": {"dx": "0.2", "dy": 1}}, "must be above 0, got '0.2'"),
        ({"max_change": {"dx": 1}}, "max_change says nothing of dy"),
        ({"max_change": {"dx": 1, "dz": 1}}, "no 'dz'; there are: dx, dy"),
        ({"workspace": {"x": (1, -1)}}, "workspace of 'x' must be two finite numbers, low < high"),
        ({"workspace": {"x": (0, math.nan)}}, "low < high, got"),
        ({"workspace": {"x": (0, math.inf)}}, "low < high, got"),
        ({"workspace": {"x": 3}}, "low < high, got 3"),
        ({"workspace": {"xx": (0, 1)}}, "no 'xx'; did you mean 'x'"),
        ({"moved_by": {"y": "dy"}}, "moved_by: there is no 'y'"),
        ({"moved_by": {"x": "dxx"}}, "there is no 'dxx'; did you mean 'dx'"),
    ],
)
def test_limits_that_are_none_are_refused_before_anything_moves(change, match):
    with pytest.raises(ValueError, match=match):
        LastFilter(SPEC, RobotLimits(**{**GOOD, **change}), ("x", "y"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("max_chnage: {dx: 1}", "no 'max_chnage'; did you mean 'max_change'"),
        ("max_change: {dx: 1, dy: 1}", "says nothing of workspace; a robot needs limits"),
        ("workspace: {x: [0, 1]}", "says nothing of max_change; a robot needs limits"),
        ("max_change: 3\nworkspace: {x: [0, 1]}", "max_change must hold one `name: value` a line"),
        ("max_change: {dx: .nan, dy: 1}\nworkspace: {x: [0, 1]}", "must be above 0, got nan"),
        ("- 3", "must hold limits"),
        ("", "must hold limits"),
    ],
)
def test_a_typo_in_a_file_of_limits_stops_the_program(tmp_path, text, match):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        RobotLimits.load(path)


def test_a_file_of_limits_means_what_it_says(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("max_change: {dx: 0.2, dy: .inf}\nworkspace: {x: [-1, 1]}\nmoved_by: {x: dx}\n")
    last_filter = LastFilter(SPEC, RobotLimits.load(path), ("x", "y"))
    sent = last_filter(np.array([9.0, 0.3]), last=np.zeros(2), state=np.array([0.95, 0.0]))
    assert sent == pytest.approx([0.05, 0.3], abs=1e-6)


@pytest.mark.parametrize("spec", [None, "(-1, 1)", {"low": -1}])
def test_an_environment_without_limits_is_refused(spec):
    with pytest.raises(ValueError, match="a robot without limits is refused"):
        LastFilter(spec, None, ())


def test_choices_are_sent_as_they_are_or_not_at_all():
    spec = replace(SPEC, low=(0.0,) * 2, high=(1.0,) * 2, kind="one_hot", norm_limits=())
    choices = LastFilter(spec, None, ())
    assert choices([0, 1], last=np.array([1, 0]), state=np.zeros(0)).tolist() == [0, 1]
    with pytest.raises(RefusedAction, match="exactly one 1"):
        choices([1, 1], last=np.array([1, 0]), state=np.zeros(0))


FILES = {
    "max_change: {dx: 0.02, dy: 0.02, dx: .inf}\nworkspace: {}\n": "'dx' is there twice",
    "max_change: {dx: 1}\nworkspace: {x: [0, 1]}\nworkspace: {}\n": "'workspace' is there twice",
    "max_change: {dx: [1}": "is no YAML",
    "max_change: !!python/name:os.system": "is no YAML",
    b"max_change: \xff\xfe": "is no YAML",
    "- 1\n": "must hold limits",
    "max_change: {dx: 1, dy: 1}\nworkspace: off\n": "workspace must hold one",
    "max_change: {dx: 1, dy: 1}\nworkspce: {}\n": "did you mean 'workspace'",
    "max_change: {dx: 1, dy: 1}\n": "says nothing of workspace",
    "max_change: {dx: .nan, dy: 1}\nworkspace: {}\n": "must be above 0, got nan",
    "max_change: {dx: yes, dy: 1}\nworkspace: {}\n": "must be above 0, got True",
}


@pytest.mark.parametrize("content", FILES)
def test_a_file_of_limits_that_is_not_what_it_seems_is_one_line(tmp_path, content):
    """Seen to fail: of a key that is there twice the last one won, and took the limit away."""
    path = tmp_path / "limits.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=FILES[content]) as caught:
        RobotLimits.load(path)
    assert "\n" not in str(caught.value)
