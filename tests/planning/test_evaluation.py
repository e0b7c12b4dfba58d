import json

import numpy as np
import pytest

from planning.__main__ import PROTOCOLS, find_tasks, main
from planning.baselines import do_nothing, oracle
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import (
    Rate,
    TaskSet,
    baselines,
    evaluate,
    freeze_tasks,
    success_table,
    wilson_interval,
)


@pytest.fixture
def tasks():
    return freeze_tasks(TwoRooms(), name="few", num_tasks=6, seed=3)


def test_wilson_interval_equals_the_textbook_value():
    # Newcombe (1998), Table I: 81 of 263 gives 0.2553 to 0.3662
    low, high = wilson_interval(81, 263)
    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


def test_wilson_interval_stays_in_bounds_and_shrinks_with_more_episodes():
    assert wilson_interval(0, 10)[0] == 0 and wilson_interval(10, 10)[1] == pytest.approx(1)
    assert 0 < wilson_interval(0, 10)[1] < 0.35
    narrow, wide = wilson_interval(90, 100), wilson_interval(9, 10)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, episodes):
    with pytest.raises(ValueError, match="0 <= successes <= episodes"):
        wilson_interval(successes, episodes)


def test_a_rate_counts_and_prints_its_interval():
    rate = Rate.of([True, True, False, True])
    assert (rate.successes, rate.episodes, rate.rate) == (3, 4, 0.75)
    assert str(rate) == " 75% [30%, 95%]"


def test_the_same_seed_freezes_the_same_tasks_and_half_of_them_cross_the_wall(tasks):
    again = freeze_tasks(TwoRooms(), name="few", num_tasks=6, seed=3)
    rooms = TwoRooms()
    for one, other in zip(tasks.tasks, again.tasks, strict=True):
        np.testing.assert_array_equal(one.start, other.start)
        np.testing.assert_array_equal(one.goal, other.goal)
        crosses = rooms.room(one.start) != rooms.room(one.goal)
        assert one.group == ("different_rooms" if crosses else "same_room")
    assert [task.group for task in tasks.tasks].count("different_rooms") == 3


def test_saved_tasks_are_read_back_bit_for_bit(tasks, tmp_path):
    again = TaskSet.load(tasks.save(tmp_path / "few.json"))
    assert (again.name, again.seed, again.max_steps) == ("few", 3, 50)
    for one, other in zip(tasks.tasks, again.tasks, strict=True):
        np.testing.assert_array_equal(one.start, other.start)
        np.testing.assert_array_equal(one.goal, other.goal)


def test_the_committed_tasks_are_those_of_their_command():
    frozen = TaskSet.load(find_tasks("two_rooms"))
    drawn = freeze_tasks(TwoRooms(), name="two_rooms", num_tasks=200, seed=frozen.seed)
    assert len(frozen.tasks) == 200
    for one, other in zip(frozen.tasks, drawn.tasks, strict=True):
        np.testing.assert_allclose(one.start, other.start)
        np.testing.assert_allclose(one.goal, other.goal)


def test_oracle_and_do_nothing_bound_the_success_of_everything_else(tasks):
    best = evaluate("oracle", lambda index: oracle, tasks)
    worst = evaluate("do nothing", lambda index: do_nothing, tasks)
    assert best.success.rate == 1.0
    assert worst.success.rate == 0.0
    assert best.success_in("different_rooms").episodes == 3
    assert worst.mean_steps_of_successes is None
    table = success_table([best, worst])
    assert "different_rooms" in table and "oracle" in table


def test_evaluating_twice_gives_the_same_episodes(tasks):
    make = baselines(TwoRooms())["random actions"]
    once, twice = (evaluate("random", make, tasks).to_json()["episodes"] for _ in range(2))
    assert once == twice


def test_tasks_frozen_for_another_success_distance_are_refused(tasks):
    changed = TaskSet(**{**vars(tasks), "success_distance": 9.0})
    with pytest.raises(ValueError, match=r"frozen for success within 9.0, the environment has 4.0"):
        changed.make_environment()


def test_more_tasks_than_there_are_cannot_be_taken(tasks):
    assert len(tasks.first(2).tasks) == 2
    with pytest.raises(ValueError, match="few has 6 tasks, cannot take 7"):
        tasks.first(7)


def test_tasks_know_the_options_they_were_frozen_with(tmp_path):
    small = freeze_tasks(TwoRooms(image_size=32), name="few", num_tasks=2, seed=3)
    assert small.options == {"image_size": 32, "door_center": 0.34}
    again = TaskSet.load(small.save(tmp_path / "few.json"))
    assert again.options == small.options
    environment = again.make_environment()
    assert (environment.image_size, environment.success_distance) == (32, 2.0)
    assert again.first(1).options == small.options


def test_files_of_format_1_are_read_and_say_nothing_of_options(tasks, tmp_path):
    content = json.loads(tasks.save(tmp_path / "few.json").read_text())
    old = {key: value for key, value in content.items() if key not in ("options", "packages")}
    (tmp_path / "old.json").write_text(json.dumps({**old, "format": 1}))
    read = TaskSet.load(tmp_path / "old.json")
    assert (read.options, read.packages, len(read.tasks)) == ({}, {}, 6)
    (tmp_path / "old.json").write_text(json.dumps({**old, "format": 3}))
    with pytest.raises(ValueError, match=r"old.json is not a task file of format 1 or 2"):
        TaskSet.load(tmp_path / "old.json")


def test_a_file_that_is_no_task_file_is_named(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"tasks.json is not a task file"):
        TaskSet.load(path)
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="is not a task file of format 1"):
        TaskSet.load(path)


def test_an_unknown_task_name_lists_the_protocols():
    assert (PROTOCOLS / "two_rooms.json").is_file()
    with pytest.raises(FileNotFoundError, match=r"no task file 'three_rooms'.*two_rooms"):
        find_tasks("three_rooms")


def test_record_and_freeze_are_commands(tmp_path, capsys):
    assert main(["record", "--episodes", "2", "--steps", "5", str(tmp_path / "shards")]) == 0
    assert "recorded 2 episodes of 5 steps" in capsys.readouterr().out
    assert main(["freeze", "--tasks", "4", "--seed", str(2**31), str(tmp_path / "four.json")]) == 0
    assert len(TaskSet.load(tmp_path / "four.json").tasks) == 4


def test_tasks_of_one_group_are_drawn_until_there_are_enough():
    apart = freeze_tasks(TwoRooms(), name="x", num_tasks=5, seed=3, group="different_rooms")
    assert [task.group for task in apart.tasks] == ["different_rooms"] * 5
    with pytest.raises(ValueError, match="two_rooms drew no task of the group 'upstairs'"):
        freeze_tasks(TwoRooms(), name="x", num_tasks=1, seed=3, group="upstairs")


def test_a_task_file_whose_tasks_are_incomplete_is_named(tasks, tmp_path):
    path = tasks.save(tmp_path / "few.json")
    path.write_text(path.read_text().replace('"goal"', '"gaol"', 1))
    with pytest.raises(ValueError, match=r"few.json is not a task file of format 2 \(KeyError"):
        TaskSet.load(path)
