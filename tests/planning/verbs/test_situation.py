"""Choices, grippers and sub-goals, through the real command line."""

import json

import numpy as np
import pytest

from planning import environments
from planning.verbs.situation import has_landscape

COMPASS = '''
"""A disc that goes west, stays, or goes east."""

from dataclasses import replace

import numpy as np

from planning.actions.space import ActionSpec
from planning.environments.two_rooms import TwoRooms

MOVES = np.array([[-4.0, 0.0], [0.0, 0.0], [4.0, 0.0]])


class Compass(TwoRooms):
    name = "compass"
    action_spec = ActionSpec(
        ("west", "stay", "east"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, kind="one_hot"
    )

    def __init__(self):
        super().__init__()
        self.name = "compass"

    def step(self, action):
        self._position = self.move(self._position, self.action_spec.validate(action) @ MOVES)
        self._steps += 1
        return self._time_step()
'''
GRABBER = '''
"""A disc with a gripper that is open (0) or closed (1), and a switch with a dead zone."""

from planning.actions.limits import Gripper
from planning.actions.space import ActionSpec
from planning.environments.two_rooms import TwoRooms


class Grabber(TwoRooms):
    name = "grabber"
    action_spec = ActionSpec(
        ("dx", "dy", "grip", "lift"), ("pixel/step", "pixel/step", "1", "1"),
        (-4.0, -4.0, 0.0, -1.0), (4.0, 4.0, 1.0, 1.0),
        grippers=(Gripper("grip"), Gripper("lift", "dead_zone", 0.25)),
    )

    def __init__(self):
        super().__init__()
        self.name = "grabber"

    def step(self, action):
        moves = self.action_spec.validate(action)[:2]
        self._position = self.move(self._position, moves)
        self._steps += 1
        return self._time_step()
'''
GOAL = ("--goal-state", "52,50", "--max-steps", 4, "--no-pictures")
CHOOSE = ("--planner", "categorical_cem", "--samples", 16, "--elites", 4, "--iterations", 2)
MOVE = ("--samples", 16, "--elites", 4, "--iterations", 2)


@pytest.fixture
def more_environments(tmp_path, monkeypatch):
    """Two more files in the folder of environments."""
    folder = tmp_path / "environments"
    folder.mkdir()
    (folder / "compass.py").write_text(COMPASS)
    (folder / "grabber.py").write_text(GRABBER)
    monkeypatch.setattr(environments, "__path__", [*environments.__path__, str(folder)])


@pytest.fixture
def planned(jepa_plan, more_environments, make_checkpoint):
    """Runs in an environment; returns the exit code, the log and what was said."""
    worlds = {}

    def run(environment, *options):
        spec = environments.make_environment(environment).action_spec
        world = worlds.setdefault(spec.dim, make_checkpoint(action_dim=spec.dim))
        code, _, errors = jepa_plan("run", "--env", environment, *options, world=world)
        path = jepa_plan.out / "log.json"
        return code, json.loads(path.read_text()) if path.exists() else None, errors

    return run


def test_choices_are_planned_and_executed_as_choices(planned):
    code, log, errors = planned("compass", *GOAL, *CHOOSE)
    assert (code, errors) == (1, [])
    actions = np.array(log["steps"]["actions"])
    assert actions.shape == (4, 3) and (actions.sum(1) == 1).all()
    assert log["settings"]["planner"]["class"] == "CategoricalCEM"
    first, second = np.array(log["steps"]["states"])[:2, 0]  # later, a wall may be in the way
    assert second - first == pytest.approx(actions[0] @ [-4, 0, 4], abs=1e-5)
    assert log["settings"]["landscape"] is None  # choices have none


def test_a_choice_may_be_held_and_a_change_of_choice_may_cost(planned):
    changing = ("--cost-term", "action_change=100")
    _, log, errors = planned("compass", *GOAL, *CHOOSE, "--repeat", 4, *changing)
    assert errors == []
    plan = np.array(log["plans"][0]["actions"])
    assert (plan[:4] == plan[0]).all() and (plan[4:] == plan[4]).all()
    part = log["plans"][0]["cost_parts"]["action_change"]
    changes = np.abs(np.diff(plan, axis=0)).sum() / 2  # two numbers change with a choice
    assert part == pytest.approx(100 * changes * 2 * 4 / (7 * 3), rel=1e-4)  # of a range of 1


def test_while_acting_choices_need_to_know_which_one_stands_still(planned):
    mode = ("--async", "--period-ms", 20)
    code, _, (error,) = planned("compass", *GOAL, *CHOOSE, *mode)
    assert code == 2 and "choices (west, stay, east) have no zero action" in error
    code, log, errors = planned("compass", *GOAL, *CHOOSE, *mode, "--standstill", "stay")
    assert (code, errors) == (1, [])
    assert log["settings"]["actions"]["standstill"] == [0.0, 1.0, 0.0]
    assert log["steps"]["actions"][0] == [0.0, 1.0, 0.0]  # until there is a plan


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "CEM plans continuous actions, those of compass are choices (west, stay, east); use "
             "--planner categorical_cem"),
        ([*CHOOSE, "--limit", "west=0:0.5"], "actions here are choices (west, stay, east), which"),
        ([*CHOOSE, "--cost-term", "action_size=1"], "--cost-term action_size would decide nothing"),
        ([*CHOOSE, "--standstill", "north"], "--standstill must be one of west, stay, east"),
    ],
)  # fmt: skip
def test_what_choices_cannot_is_said_in_one_line(planned, options, expected):
    code, _, (error,) = planned("compass", *GOAL, *options)
    assert code == 2 and expected in error


def test_a_planner_of_choices_is_refused_where_actions_are_numbers(jepa_plan):
    code, _, (error,) = jepa_plan("run", *GOAL, *CHOOSE)
    assert code == 2 and "CategoricalCEM plans choices, those of two_rooms are continuous" in error
    assert "cem or" in error


def test_grippers_snap_in_plans_and_in_what_is_executed(planned):
    code, log, errors = planned("grabber", *GOAL, *MOVE)
    assert (code, errors) == (1, [])
    for actions in (log["steps"]["actions"], log["plans"][0]["actions"]):
        grip, lift = np.array(actions).T[2:]
        assert set(grip) <= {0.0, 1.0}
        assert ((np.abs(lift) >= 0.25) | (lift == 0)).all()


def test_while_acting_a_gripper_needs_to_know_how_it_begins(planned):
    mode = ("--async", "--period-ms", 20)
    code, _, (error,) = planned("grabber", *GOAL, *MOVE, *mode)
    assert code == 2 and "a binary gripper (grip) has no zero, and nothing was executed" in error
    code, log, errors = planned("grabber", *GOAL, *MOVE, *mode, "--standstill", "0,0,1,0")
    assert (code, errors) == (1, [])
    assert log["steps"]["actions"][0] == [0.0, 0.0, 1.0, 0.0]
    code, _, (error,) = planned("grabber", *GOAL, *MOVE, "--limit", "grip=0:0.5")
    assert code == 2 and "the gripper 'grip' is open or closed, so it cannot be limited" in error


@pytest.mark.parametrize(
    "mode",
    [
        ("--max-steps", 12),
        ("--max-steps", 60, "--async", "--period-ms", 50, "--standstill", "stay"),
    ],
)
def test_sub_goals_are_pursued_with_choices_too(planned, goal_png, mode):
    goals = [goal_png((x, 50.0), name=f"{x}.png") for x in (20.0, 24.0)]
    words = [word for goal in goals for word in ("--goal", goal)]
    code, log, errors = planned(
        "compass", *words, "--sub-goal-steps", 2, "--reached-distance", 1e-9, "--no-pictures",
        "--execute", 2, *CHOOSE, *mode,
    )  # fmt: skip
    assert (code, errors) == (1, [])
    indices = [plan["goal_index"] for plan in log["plans"]]
    assert indices[0] == 0 and indices[-1] == 1 and sorted(indices) == indices


def test_only_numbers_of_two_dimensions_have_a_landscape(more_environments):
    assert has_landscape(environments.make_environment("grabber"))
    assert not has_landscape(environments.make_environment("compass"))
