"""Words of the command line about actions, and what a run with them executes."""

import json

import numpy as np
import pytest

from planning.actions.limits import Gripper
from planning.actions.space import ActionSpec
from planning.verbs.action_options import interval, named_values, standstill_of

MOVES = ActionSpec(("dx", "dy"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0))
CHOICES = ActionSpec(("left", "wait", "right"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, kind="one_hot")
HAND = ActionSpec(("dx", "grip"), ("1", "1"), (-1.0, 0.0), (1.0, 1.0), grippers=(Gripper("grip"),))
TO = ("--goal-state", "52,20", "--max-steps", 6, "--execute", 3, "--no-pictures", "--samples", 16)
SMALL = (*TO, "--elites", 4, "--iterations", 2)


def test_an_interval_may_lack_a_side():
    assert interval("-1:2", option="--limit") == (-1.0, 2.0)
    assert interval(":2", option="--limit") == (-float("inf"), 2.0)
    assert interval("0.5:", option="--limit") == (0.5, float("inf"))
    for text in ("1", ":", "a:b", "1:nan", "inf:3"):
        with pytest.raises(ValueError, match="--limit needs"):
            interval(text, option="--limit")


def test_names_are_given_once():
    assert named_values(["a=1", " b = x=2 "], option="--o", form="") == {"a": "1", "b": "x=2"}
    with pytest.raises(ValueError, match="--o is given twice for 'a': 1 and 2"):
        named_values(["a=1", "a=2"], option="--o", form="")


def test_standing_still_is_said_in_numbers_or_by_a_choice():
    assert standstill_of(None, MOVES) is None
    assert standstill_of("0, 0.5", MOVES) == (0.0, 0.5)
    assert standstill_of("wait", CHOICES) == standstill_of("0,1,0", CHOICES) == (0.0, 1.0, 0.0)
    assert standstill_of("0,1", HAND) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "spec", "match"),
    [
        ("0", MOVES, r"must be 2 numbers inside the limits of an action \(dx,dy\), got '0'"),
        ("0,3", MOVES, "inside the limits"),
        ("0,nan", MOVES, "inside the limits"),
        ("0,0.4", HAND, "inside the limits"),  # a gripper is open or closed
        ("up", CHOICES, "must be one of left, wait, right, got 'up'"),
        ("1,1,0", CHOICES, "must be one of left, wait, right"),
    ],
)
def test_what_does_not_stand_still_is_refused(text, spec, match):
    with pytest.raises(ValueError, match=match):
        standstill_of(text, spec)


# Runs.


def log_of(jepa_plan):
    return json.loads((jepa_plan.out / "log.json").read_text())


ASYNC = ("--async", "--period-ms", 50, "--max-steps", 60)  # time for plans on a busy machine


@pytest.mark.parametrize("mode", [(), ASYNC], ids=["waits", "async"])
def test_every_action_is_inside_the_tighter_limits_and_changes_little(jepa_plan, mode):
    code, _, errors = jepa_plan(
        "run", *SMALL, "--limit", "dx=-0.5:", "--limit", "dy=-3:2", "--max-change", "dy=0.4", *mode
    )
    assert (code, errors) == (1, [])
    log = log_of(jepa_plan)
    actions = np.array(log["steps"]["actions"])
    assert actions[:, 0].min() >= -0.5 and actions[:, 1].max() <= 2
    changes = np.diff(actions[:, 1], prepend=0.0)  # it stood still before
    assert np.abs(changes).max() <= 0.4 + 1e-5
    assert np.abs(np.diff(np.array(log["plans"][0]["actions"])[:, 1])).max() <= 0.4 + 1e-5
    told = log["settings"]["actions"]
    assert (told["low"], told["high"]) == ([-0.5, -3.0], [5.0, 2.0])
    assert told["max_change"] == [None, 0.4]  # infinity, which JSON cannot say


def test_a_landscape_ends_where_the_limits_do(jepa_plan):
    code, _, errors = jepa_plan("landscape", "--goal-state", "52,20", "--limit", "dx=-1:2")
    told = json.loads((jepa_plan.out / "landscape.json").read_text())
    assert (code in (0, 1), errors) == (True, [])
    assert (told["first"], told["second"]) == ([-1.0, 0.5, 2.0], [-5.0, 0.0, 5.0])


def test_a_config_holds_limits_and_terms_too(jepa_plan, tmp_path):
    config = tmp_path / "careful.yaml"
    config.write_text(
        "limit: {dx: '-2:2'}\nmax-change: {dx: 1.5, dy: 1.5}\nstandstill: 0,0\n"
        "cost-term: {action_size: 0.1, action_change: 0.05}\nkeep-out: ['x=1:2,y=1:2']\n"
        "knots: 3\nspline: monotone\nprecision: bf16\n"
    )
    code, _, errors = jepa_plan("run", *SMALL, "--config", config)
    assert (code, errors) == (1, [])
    settings = log_of(jepa_plan)["settings"]
    assert settings["actions"]["low"] == [-2.0, -5.0]
    assert settings["actions"]["max_change"] == [1.5, 1.5]
    assert settings["actions"]["standstill"] == [0.0, 0.0]
    assert settings["cost"].keys() == {"goal", "action_size", "action_change", "keep_out"}
    assert settings["planner"]["parameterization"] == "SplineKnots(num_knots=3, order='monotone')"
    assert settings["world"]["precision"] == "bf16"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "dz=0:1"], "there is no action dimension 'dz' to limit; there are: dx, dy"),
        (["--limit", "dx=-9:9"], "the limits -9:9 of 'dx' are wider than the environment's, -5:5"),
        (["--limit", "dx=2"], "--limit needs LOW:HIGH, for example -1:2 or :2, got '2'"),
        (["--limit", "dx"], "--limit needs NAME=LOW:HIGH, got 'dx'"),
        (["--limit", "dx=3:1"], "the limits of 'dx' must be low < high, got 3:1"),
        (["--max-change", "dx=0"], "the largest change of 'dx' must be above 0, got 0"),
        (["--max-change", "dx=fast"], "--max-change needs finite numbers, got 'fast'"),
        (["--standstill", "0"], "--standstill must be 2 numbers inside the limits of an action"),
        (["--limit", "dx=1:2", "--standstill", "0,0"], "--standstill must be 2 numbers inside"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(jepa_plan, options, expected):
    code, _, (error,) = jepa_plan("run", *SMALL, *options)
    assert code == 2 and error.startswith("error: ") and expected in error
