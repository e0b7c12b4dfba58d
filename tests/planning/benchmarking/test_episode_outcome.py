from dataclasses import replace

import numpy as np
import pytest

from planning.benchmarking.episode_outcome import (
    EpisodeOutcome,
    PolicyOutcome,
    by_rule,
    fingerprint,
)
from planning.control.mpc import EpisodeRecord, PlanRecord
from planning.evaluation import Task
from planning.types import Goal


@pytest.fixture
def outcome_of(load_card):
    """The outcome of an episode with these distances, after the reset and after each step."""
    card, zeros = load_card(), np.zeros(2)

    def make(distances, *, index=0, group="any"):
        frame = np.zeros((2, 2, 3), np.uint8)
        record = EpisodeRecord(
            [frame] * len(distances), [zeros] * len(distances), [zeros] * (len(distances) - 1),
            Goal(frame, zeros), False, distances[-1],
        )  # fmt: skip
        return EpisodeOutcome.of(card, Task(zeros, zeros, group), index, record, distances)

    return make


def test_an_episode_is_judged_at_any_step_and_at_the_last(outcome_of):
    outcome = outcome_of([9, 5, 3, 2, 8])
    assert (outcome.is_success_at_any_step, outcome.is_success_at_last_step) == (True, False)
    assert outcome.is_success  # the card says any step
    assert (outcome.first_success_step, outcome.num_steps) == (2, 4)
    assert (outcome.final_distance, outcome.least_distance) == (8, 2)


def test_being_there_before_any_action_is_noted_and_no_success(outcome_of):
    outcome = outcome_of([1, 9, 9])
    assert outcome.was_solved_at_start and not outcome.is_success
    assert outcome.first_success_step is None


def test_plans_are_counted_with_their_time_and_warnings(load_card, make_plan):
    plan = make_plan([[1.0, 0.0]])
    plans = [
        replace(plan, seconds=s, num_rollouts=30, warnings=w)
        for s, w in ((1.0, ("flat",)), (3.0, ()), (2.0, ("flat", "at a bound")))
    ]
    zeros, frame = np.zeros(2), np.zeros((2, 2, 3), np.uint8)
    record = EpisodeRecord(
        [frame] * 2, [zeros] * 2, [zeros], Goal(frame, zeros), False, 9.0,
        plans=[PlanRecord(0, one, np.zeros(1)) for one in plans],
    )  # fmt: skip
    outcome = EpisodeOutcome.of(load_card(), Task(zeros, zeros, "any"), 0, record, [9, 9])
    assert (outcome.num_plans, outcome.seconds_per_plan, outcome.rollouts_per_second) == (3, 2, 15)
    assert outcome.plan_warnings == {"flat": 2, "at a bound": 1}


def test_a_policy_without_plans_has_no_planning_time(outcome_of):
    outcome = outcome_of([9, 9])
    assert (outcome.num_plans, outcome.seconds_per_plan) == (0, None)


def test_the_fingerprint_ignores_time_and_nothing_else(outcome_of):
    row = outcome_of([9, 3]).to_json()
    slower = {**row, "seconds_per_plan": 7.0, "rollouts_per_second": 1.0}
    assert fingerprint([row]) == fingerprint([slower])
    assert fingerprint([row]) != fingerprint([{**row, "final_distance": 3.0000001}])
    assert fingerprint([row]) != fingerprint([row, row])


def test_worst_median_and_best_are_by_final_distance(outcome_of):
    episodes = [outcome_of([9, d], index=i) for i, d in enumerate([5, 1, 7, 3, 7])]
    shown = by_rule(episodes)
    assert {rule: episode.task for rule, episode in shown.items()} == {
        "worst": 4, "median": 0, "best": 1,
    }  # fmt: skip
    assert {e.task for e in by_rule(episodes[:1]).values()} == {0}


def test_a_summary_counts_rates_by_group(outcome_of):
    episodes = (
        outcome_of([9, 3, 9], index=0, group="near"),
        outcome_of([9, 9, 3], index=1, group="near"),
        outcome_of([9, 9, 9], index=2, group="far"),
        outcome_of([1, 9, 5], index=3, group="far"),
    )
    summary = PolicyOutcome("planner", "planner", episodes, 2.0).summary()
    assert summary["success"]["rate"] == 0.5
    assert summary["success_at_last_step"]["rate"] == 0.25
    assert summary["solved_at_start"]["rate"] == 0.25
    assert {group: rate["rate"] for group, rate in summary["groups"].items()} == {
        "near": 1.0, "far": 0.0,
    }  # fmt: skip
    assert summary["final_distance"] == {"median": 7.0, "mean": 6.5}
    assert summary["seconds_per_plan"] is None
