"""Versions and numbers of a log; whole logs are tested in test_running.py."""

import json

import numpy as np
import pytest
import torch

from planning.control.mpc import PlanRecord
from planning.verbs.log import (
    WatchedEnvironment,
    failed_run_log,
    plan_log,
    versions,
    write_json,
)


def test_what_json_cannot_say_becomes_null(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1.0, float("nan"), np.float32("inf")], "b": {"c": -float("inf")}})
    assert json.loads(path.read_text()) == {"a": [1.0, None, None], "b": {"c": None}}


def test_versions_name_what_the_numbers_depend_on():
    told = versions()
    assert told["torch"] == torch.__version__ and told["numpy"] == np.__version__


def test_a_plan_is_told_with_its_milliseconds_and_its_actions(make_plan):
    plan = make_plan([[0.5, 1.0]])
    told = plan_log(PlanRecord(3, plan, np.array([0.25]), 0.75, 1, 5, {"goal": 0.5}))
    assert told["cost_parts"] == {"goal": 0.5}
    assert (told["step"], told["begins_at_step"], told["goal_index"]) == (3, 5, 1)
    assert told["milliseconds"] == pytest.approx(1e3 * plan.seconds)
    assert told["actions"] == [[0.5, 1.0]]
    assert told["imagined_distances"] == [0.25]


def test_a_watched_environment_is_the_same_and_remembers(rooms):
    plain, watched = rooms(), WatchedEnvironment(rooms())
    start, goal = np.array([6.0, 25.0]), np.array([26.0, 10.0])
    for environment in (plain, watched):
        environment.reset(np.random.default_rng(0), start=start, goal=goal)
    action = np.array([1.0, -2.0])
    expected = plain.step(action)
    assert watched.step(action).state.tolist() == expected.state.tolist()
    assert watched.name == "two_rooms" and watched.distance_to_goal() == plain.distance_to_goal()
    assert [state.tolist() for state in watched.states] == [[6, 25], expected.state.tolist()]
    assert watched.actions == [action]


def test_the_notes_of_an_error_are_told_with_it(rooms):
    error = OSError("the camera is gone")
    error.__dict__["__notes__"] = ["the robot could not be stopped"]
    told = failed_run_log(error, settings={}, plans=[], watched=WatchedEnvironment(rooms()))
    assert told["result"]["error"] == "OSError: the camera is gone; the robot could not be stopped"
    assert told["steps"] == {"states": [], "actions": [], "latent_distances": []}
