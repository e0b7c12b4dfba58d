"""The half-seen room, the statistics by hand, and the path from recording to table."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, and the number of threads as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])  # last: planning.py lies there too
    threads = torch.get_num_threads()
    import uncertainty

    yield uncertainty
    torch.set_num_threads(threads)


def test_half_of_the_floor_is_unseen(benchmark):
    room, generator = benchmark.HalfSeenRoom(), np.random.default_rng(0)
    free = [place for place in generator.uniform(0, 64, (4000, 2)) if room.is_free(place)]
    assert np.mean([room.is_unseen(place) for place in free]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("before", "after", "enters"),
    [
        ((12, 40), (52, 40), True),  # through
        ((12, 40), (13, 50), False),  # beside
        ((12, 10), (52, 10), False),  # above
        ((30, 17), (30, 20), True),  # into
        ((30, 30), (30, 30), True),  # standing in it
        ((14.5, 30), (14.5, 50), False),  # along its border
        ((13.5, 20), (16.5, 17.5), True),  # cutting a corner, both ends outside
        ((13.5, 19), (16.5, 17.5), False),
    ],
)
def test_ways_through_the_unseen_half_by_hand(benchmark, before, after, enters):
    room = benchmark.HalfSeenRoom()
    for way in ((before, after), (after, before)):
        assert room.enters_unseen(*(np.array(place, float) for place in way)) is enters


def test_recordings_never_touch_the_unseen_half_but_come_near_it(benchmark):
    room, generator = benchmark.HalfSeenRoom(), np.random.default_rng(0)
    policy, nearest = benchmark.StaysInSeenHalf(), 99.0
    time_step = room.reset(generator)
    for _ in range(300):
        while time_step.is_last:  # a new goal may be where it stands
            time_step = room.reset(generator, start=time_step.state.astype(float))
        before = time_step.state.astype(float)
        time_step = room.step(policy(room, time_step, generator))
        assert not room.enters_unseen(before, time_step.state.astype(float))
        x, y = time_step.state
        nearest = min(nearest, max(room.left - x, x - room.right, room.top - y))
    assert 0 <= nearest < 1


def test_a_step_into_the_pit_ends_the_episode_and_on_floor_it_does_not(benchmark):
    start, goal = np.array([12.0, 40.0]), np.array([55.0, 40.0])
    for is_pit in (True, False):
        room = benchmark.HalfSeenRoom(is_pit=is_pit)
        room.reset(np.random.default_rng(0), start=start, goal=goal)
        time_step = room.step(np.array([4.0, 0.0], np.float32))
        assert (time_step.is_last, room.has_fallen) == (is_pit, is_pit)
        assert not time_step.is_success
        room.reset(np.random.default_rng(0), start=start, goal=goal)
        assert not room.has_fallen


def test_every_task_can_be_solved_within_the_seen_half(benchmark):
    tasks = benchmark.draw_tasks(40, seed=3)
    outcomes = benchmark.run_policy(tasks, lambda: benchmark.oracle_around, is_pit=True)
    assert all(outcome.is_success for outcome in outcomes)
    assert not any(outcome.num_unseen for outcome in outcomes)
    assert [task.group for task in tasks[:2]] == ["beside", "across"]
    straight = benchmark.run_policy(tasks, lambda: benchmark.straight_line, is_pit=True)
    assert [outcome.is_success for outcome in straight] == [True, False] * 20


def test_tasks_of_one_seed_are_frozen_and_those_of_another_are_others(benchmark):
    first, again, other = (benchmark.draw_tasks(4, seed=seed) for seed in (5, 5, 6))
    assert [t.start.tolist() for t in first] == [t.start.tolist() for t in again]
    assert not {tuple(t.start) for t in first} & {tuple(t.start) for t in other}


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (3, 1, 2 * (1 + 4) / 16), (2, 2, 1.0), (1, 9, 2 * 11 / 1024)],
)
def test_mcnemar_by_hand(benchmark, gained, lost, p):
    without = [False] * gained + [True] * lost + [True, False] * 3
    with_penalty = [True] * gained + [False] * lost + [True, False] * 3
    found = benchmark.mcnemar(without, with_penalty)
    assert found == (gained, lost, pytest.approx(p))


def test_auroc_and_rank_correlation_by_hand(benchmark):
    low, high = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0, 4.0])
    assert benchmark.auroc(high, low) == pytest.approx((2 * 1 + 2 * 2 + 1 + 0.5 - 1 - 1) / 6)
    assert benchmark.auroc(low, low) == 0.5
    rising = torch.tensor([1.0, 10.0, 11.0, 50.0])
    assert benchmark.rank_correlation(rising, rising.exp().clamp(max=1e30)) == pytest.approx(1)
    assert benchmark.rank_correlation(rising, -rising) == pytest.approx(-1)
    swapped = torch.tensor([1.0, 11.0, 10.0, 50.0])
    assert benchmark.rank_correlation(rising, swapped) == pytest.approx(1 - 6 * 2 / (4 * 15))


@pytest.mark.slow
@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_the_quick_run_goes_all_the_way_and_keeps_every_outcome(benchmark, tmp_path, capsys):
    benchmark.main(["--quick", "--guard", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for text in ("AUROC", "rank correlation", "unseen half is pit", "unseen half is floor"):
        assert text in printed
    assert printed.count("guard against without: solves") == 2
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    arms = {"without", "disagreement", "guard", "random actions", "straight line", "oracle"}
    assert {place: set(rows) for place, rows in outcomes.items()} == {"pit": arms, "floor": arms}
    # The same tasks, planner and random numbers: what needs no penalty is the same run again.
    benchmark.main(["--quick", "--reuse", "--out", str(tmp_path)])
    again = json.loads((tmp_path / "outcomes.json").read_text())
    assert again["pit"]["disagreement"] == outcomes["pit"]["disagreement"]
