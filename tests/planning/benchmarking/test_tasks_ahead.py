import numpy as np
import pytest

from planning.baselines import StickyRandom, do_nothing
from planning.benchmarking.tasks_ahead import (
    EVALUATION_SEEDS_FROM,
    TasksAhead,
    freeze_ahead,
)
from planning.collection import Collection
from planning.data_policies import DataPolicy
from planning.environments.point_mass import PointMass
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import TaskSet
from planning.recording import configuration_of, record_episodes


def frozen(environment=None, *, steps=6, policy="noisy-expert", num_tasks=5, seed=3):
    environment = environment or TwoRooms()
    make = DataPolicy(policy).maker(environment)
    ahead = TasksAhead(steps, 3 * steps)
    return freeze_ahead(environment, make, ahead, name="few", num_tasks=num_tasks, seed=seed)


@pytest.mark.parametrize("environment", [TwoRooms(), PointMass()])
def test_replaying_a_tasks_actions_from_its_start_ends_exactly_at_its_goal(environment):
    for task in frozen(environment).tasks:
        environment.success_distance = 0.0  # so that no success ends the episode
        step = environment.reset(np.random.default_rng(0), start=task.start, goal=task.goal)
        for action in task.actions:
            step = environment.step(action)
        assert len(task.actions) == 6
        np.testing.assert_array_equal(configuration_of(environment, step), task.goal)


def test_no_start_is_a_success_already():
    rooms = TwoRooms()
    for task in frozen(policy="random", steps=2, num_tasks=10).tasks:
        assert np.linalg.norm(task.start - task.goal) >= rooms.success_distance


def test_the_same_seed_freezes_the_same_tasks_and_another_seed_others():
    one, same, other = frozen(), frozen(), frozen(seed=4)
    for task, again, else_ in zip(one.tasks, same.tasks, other.tasks, strict=True):
        np.testing.assert_array_equal(task.start, again.start)
        np.testing.assert_array_equal(task.actions, again.actions)
        assert not np.array_equal(task.start, else_.start)


def test_tasks_are_of_episodes_of_their_own_which_no_recording_can_have(monkeypatch):
    seeds = []
    draw = np.random.default_rng

    def noted(seed):
        seeds.append(seed)
        return draw(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    tasks = frozen().tasks
    assert len({task.source for task in tasks}) == 5
    assert all(first >= EVALUATION_SEEDS_FROM for first, *_ in seeds)


def test_recordings_refuse_the_seeds_of_evaluations(tmp_path):
    with pytest.raises(ValueError, match="seed must be from 0 to 2147483647, got 2147483648"):
        record_episodes(
            TwoRooms(), StickyRandom, tmp_path, num_episodes=1, num_steps=1,
            seed=EVALUATION_SEEDS_FROM,
        )  # fmt: skip
    with pytest.raises(ValueError, match="kept for evaluations"):
        Collection("two_rooms", DataPolicy("random"), 1, seed=EVALUATION_SEEDS_FROM)


def test_an_environment_is_left_as_it_was():
    rooms = TwoRooms(max_steps=17)
    tasks = frozen(rooms)
    assert (rooms.max_steps, rooms.success_distance) == (17, 4.0)
    assert rooms.reset(np.random.default_rng(0)).frame.std() > 5  # it draws again
    assert (tasks.max_steps, tasks.success_distance) == (17, 4.0)


def test_tasks_with_actions_are_read_back_bit_for_bit(tmp_path):
    tasks = frozen()
    again = TaskSet.load(tasks.save(tmp_path / "few.json"))
    for task, other in zip(tasks.tasks, again.tasks, strict=True):
        assert (task.group, task.source) == (other.group, other.source)
        assert task.group == "any"
        for one, two in ((task.start, other.start), (task.actions, other.actions)):
            np.testing.assert_array_equal(one, two)
        assert other.actions.dtype == np.float32


def test_tasks_are_grouped_by_whether_an_object_must_be_moved():
    environment = TwoRooms()
    environment.state_names = ("x", "block_y")  # as if y were a block's
    ahead = TasksAhead(5, 8)

    def along_x(environment, step, generator):
        return np.array([5.0 if environment.room(step.state) == 0 else -5.0, 0.0])

    stays = freeze_ahead(environment, lambda: along_x, ahead, name="x", num_tasks=2, seed=0)
    moves = freeze_ahead(
        environment, DataPolicy("expert").maker(environment), ahead, name="x", num_tasks=4, seed=0
    )
    assert {task.group for task in stays.tasks} == {"object_stays"}
    assert {task.group for task in moves.tasks} == {"object_moves"}


def test_goals_that_are_never_away_from_their_starts_are_refused():
    with pytest.raises(ValueError, match="no task in 200 tries; at last the goal 1 steps"):
        freeze_ahead(
            TwoRooms(), lambda: do_nothing, TasksAhead(1, 2), name="x", num_tasks=1, seed=0
        )


class RefusesTheLeft(TwoRooms):
    """Nobody starts in the left half, though it can be reached."""

    def reset(self, generator, *, start=None, goal=None):
        if start is not None and start[0] < 32:
            raise ValueError(f"start must be on the right, got {start.tolist()}")
        return super().reset(generator, start=start, goal=goal)


def test_what_was_drawn_anew_is_counted_and_named():
    lines = []
    environment = RefusesTheLeft()
    make = DataPolicy("noisy-expert").maker(environment)
    tasks = freeze_ahead(
        environment, make, TasksAhead(6, 18), name="few", num_tasks=8, seed=3, tell=lines.append
    )
    assert all(task.start[0] >= 32 for task in tasks.tasks)
    attempts = sum(int(task.source.rpartition("-")[2]) for task in tasks.tasks)
    counts = [int(line.split()[2]) for line in lines]
    assert attempts > 0 and sum(counts) == attempts
    assert lines[0].endswith("times: start must be on the right, got [#]")


def test_a_seed_of_its_own_gives_a_file_episodes_of_its_own():
    one, other = frozen(seed=25, num_tasks=3), frozen(seed=30, num_tasks=3)
    starts = [tuple(task.start) for tasks in (one, other) for task in tasks.tasks]
    assert len(set(starts)) == 6


def test_tasks_ahead_know_the_options_of_their_environment():
    assert frozen(TwoRooms(image_size=32), num_tasks=1).options["image_size"] == 32


@pytest.mark.parametrize(("steps", "episode"), [(0, 5), (6, 5)])
def test_episodes_must_be_long_enough(steps, episode):
    with pytest.raises(ValueError, match="need episodes at least as long"):
        TasksAhead(steps, episode)


def test_a_seed_that_would_leave_the_reserved_range_is_refused():
    with pytest.raises(ValueError, match=r"seed must be from 0 to 2\*\*31 - 1"):
        frozen(seed=2**31)
