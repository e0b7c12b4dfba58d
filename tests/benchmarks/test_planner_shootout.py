"""The shootout of planners: one small untrained world, every planner, both kinds of budget."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jepa.checkpoints.native import save_world_model
from jepa.models.encoder import VideoEncoder
from jepa.models.latents import PatchTokens
from jepa.models.world_model import ColumnScaling, LatentWorldModel
from planning.control.mpc import PlanningPolicy
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import TaskSet, baselines, evaluate, evaluate_together, freeze_tasks
from planning.latent_world import LatentWorld

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def shootout():
    """The script as a module; the search path and the number of threads as they were."""
    path, threads = list(sys.path), torch.get_num_threads()
    sys.path.append(str(FOLDER))
    import planner_shootout

    yield planner_shootout
    torch.set_num_threads(threads)
    sys.path[:] = path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a world model of two rooms that imagines anything, but not always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"image_size": 64, "clip_length_frames": 2, "patch_size": 32}
        model = LatentWorldModel(
            VideoEncoder(**size, dim=24, depth=1, num_heads=2),
            PatchTokens(),
            uses_state=True,
            scaling=ColumnScaling((32.0, 32.0), (16.0, 16.0), (0.0, 0.0), (1.5, 1.5)),
            dim=24,
            depth=1,
            num_heads=2,
        )
        with torch.no_grad():  # as it begins, it does not care about actions
            for parameter in model.dynamics.parameters():
                parameter.normal_(0.0, 0.3)
    return save_world_model(model, tmp_path_factory.mktemp("untrained") / "world")


@pytest.fixture(scope="module")
def tasks(shootout):
    return TaskSet.load(shootout.find_tasks("two_rooms")).first(4)


# Budgets.


@pytest.mark.parametrize("rollouts", [16, 24, 48, 96, 192, 1000])
def test_every_planner_has_settings_that_spend_the_budget(shootout, rollouts):
    for name, contender in shootout.CONTENDERS.items():
        planners = [contender.of(rollouts, 8, **point) for point in contender.choices()]
        assert all(planner.horizon == 8 for planner in planners)
        assert any(0.7 * rollouts <= shootout.spending(p) <= 1.1 * rollouts for p in planners), name


def test_what_a_planner_is_said_to_spend_is_what_its_plan_counts(shootout, world, tasks):
    imagines = LatentWorld.load(world)
    problems = list(shootout.first_problems(imagines, tasks.first(1)))
    for name, contender in shootout.CONTENDERS.items():
        planner = contender.of(48, 4, **contender.choices()[-1])
        (plan,) = shootout.plan_together(planner, imagines, problems)
        counted = plan.num_rollouts + 2 * plan.num_differentiated
        # iCEM imagines elites again; CEM + gradient goes back to sampling where descent is no help.
        assert 0.75 <= counted / shootout.spending(planner) <= 1.25, name


def test_settings_that_would_overspend_are_not_chosen(shootout, world, tasks):
    def several_times(rollouts, horizon, *, times):
        return shootout.random_shooting(times * rollouts, horizon)

    found = shootout.choose(
        LatentWorld.load(world),
        shootout.Contender(several_times, {"times": (1, 30)}),
        shootout.Budget(8, "rollouts"),
        tasks,
        horizon=4,
    )
    assert found.settings == {"times": 1}
    assert found.energy == found.worst  # nothing else was tried


def test_a_planner_that_cannot_plan_so_cheaply_is_told_and_left_out(
    shootout, world, tasks, monkeypatch, capsys
):
    greedy = shootout.Contender(shootout.gradient, {"starts": (16,)})
    monkeypatch.setattr(
        shootout, "CONTENDERS", {"greedy": greedy, "CEM": shootout.CONTENDERS["CEM"]}
    )
    budget = shootout.Budget(16, "rollouts")
    chosen = shootout.choose_all(LatentWorld.load(world), budget, tasks, horizon=4)
    assert list(chosen) == ["CEM"]
    assert "greedy           cannot plan for about 16 rollouts" in capsys.readouterr().out


class Clockwork:
    """In the place of measuring: 2 ms, 0.1 ms a rollout, and what else the machine has to do."""

    def __init__(self):
        self.asked = []

    def __call__(self, world, planner, problem):
        self.asked.append(planner)
        return 0.002 + 1e-4 * planner


@pytest.mark.parametrize(("milliseconds", "rollouts"), [(3, 10), (20, 180), (100, 980)])
def test_time_is_turned_into_rollouts_by_measuring(
    shootout, tasks, monkeypatch, milliseconds, rollouts
):
    clock = Clockwork()
    monkeypatch.setattr(shootout, "plan_seconds", clock)
    monkeypatch.setattr(shootout, "first_problems", lambda world, tasks: iter([None]))
    found = shootout.rollouts_within(None, lambda count: count, milliseconds / 1e3, tasks)
    assert 0.85 * rollouts - 1 <= found <= 1.1 * rollouts
    assert len(clock.asked) <= 7


def test_less_time_than_the_smallest_plan_takes_is_for_no_rollouts(shootout, tasks, monkeypatch):
    monkeypatch.setattr(shootout, "plan_seconds", Clockwork())
    monkeypatch.setattr(shootout, "first_problems", lambda world, tasks: iter([None]))
    assert shootout.rollouts_within(None, lambda count: count, 0.001, tasks) is None


def test_time_is_processor_time_so_waiting_costs_nothing(shootout, world, tasks, monkeypatch):
    import time

    monkeypatch.setattr(shootout, "plan_together", lambda *_: time.sleep(0.05))
    assert shootout.plan_seconds(None, None, None) < 0.02
    taken = shootout.milliseconds_in_turns(LatentWorld.load(world), {"CEM": None}, tasks)
    assert taken["CEM"] < 20


# Settings.


def test_settings_are_chosen_on_other_tasks_than_those_that_are_told(shootout):
    frozen = TaskSet.load(shootout.find_tasks("two_rooms"))
    tuning = shootout.tuning_tasks(frozen)
    assert (tuning.seed, frozen.seed) == (1107, 2026)
    assert len(tuning.tasks) == shootout.TUNING_TASKS
    starts = {tuple(task.start) for task in frozen.tasks}
    assert all(tuple(task.start) not in starts for task in tuning.tasks)


def test_noise_is_the_same_for_all_and_stays_inside_the_bounds(shootout, tasks, world):
    noisy = shootout.tasks_of(shootout.SETTINGS["noise"], tasks, LatentWorld.load(world))
    moves = []
    for _ in range(2):
        room, rest = noisy.make_environment(), np.zeros(2, np.float32)
        room.reset(np.random.default_rng(5), start=np.array([20.0, 40.0]), goal=noisy.tasks[0].goal)
        moves.append([room.step(rest).state for _ in range(6)])
    steps = np.diff(np.stack(moves[0]), axis=0)
    assert np.array_equal(*np.array(moves))
    assert 0 < np.abs(steps).max() <= TwoRooms().max_move + 1e-4
    assert np.std(steps) > 0.5


def test_without_noise_a_shaken_environment_is_what_it_was(shootout, tasks):
    still = shootout.ShakenTasks(**vars(tasks), noise=0.0)
    for name in ("oracle", "straight line"):
        makers = baselines(still.make_environment())
        ends = [[e.num_steps for e in evaluate(name, makers[name], which).episodes]
                for which in (tasks, still)]  # fmt: skip
        assert ends[0] == ends[1]


def test_far_takes_the_tasks_in_different_rooms_and_all_where_there_are_no_rooms(
    shootout, tasks, world
):
    imagines, far = LatentWorld.load(world), shootout.SETTINGS["far"]
    chosen = shootout.tasks_of(far, tasks, imagines)
    assert {task.group for task in chosen.tasks} == {"different_rooms"}
    anywhere = replace(tasks, tasks=tuple(task._replace(group="any") for task in tasks.tasks))
    assert len(shootout.tasks_of(far, anywhere, imagines).tasks) == len(tasks.tasks)


def test_open_loop_is_one_plan_and_nothing_after(shootout, tasks, world):
    imagines, setting = LatentWorld.load(world), shootout.SETTINGS["open"]
    own = shootout.tasks_of(setting, tasks, imagines)
    episodes = shootout.play(
        imagines, shootout.cem(8, setting.horizon, rounds=2), own,
        execute_steps=setting.execute_steps, seed=0, batch=4,
    )  # fmt: skip
    assert all(len(episode.plans) == 1 for episode in episodes)
    assert max(episode.num_steps for episode in episodes) == setting.horizon


@pytest.mark.parametrize("batch", [1, 3])
def test_episodes_are_played_as_the_policy_plays_them(shootout, tasks, world, batch):
    """Equal plans and ends, though nothing is encoded or imagined that is not planned from."""
    imagines, planner = LatentWorld.load(world), shootout.icem(12, 4)
    short = replace(tasks, max_steps=9)
    played = shootout.play(imagines, planner, short, execute_steps=2, seed=3, batch=batch)
    encoded = imagines.num_encoded_frames
    expected = evaluate_together(
        "iCEM",
        lambda index: PlanningPolicy(imagines, planner, execute_steps=2, seed=3 + index),
        short,
        batch_size=batch,
    ).episodes
    assert encoded < imagines.num_encoded_frames - encoded
    for own, theirs in zip(played, expected, strict=True):
        assert (own.is_success, own.num_steps) == (theirs.is_success, theirs.num_steps)
        for plan, record in zip(own.plans, theirs.plans, strict=True):
            assert torch.allclose(plan.actions, record.plan.actions, atol=1e-4)


def test_a_world_that_starts_from_several_frames_is_played_by_the_policy(
    shootout, tasks, world, monkeypatch
):
    imagines = LatentWorld.load(world)
    imagines.model.context_frames = 2
    short = replace(tasks.first(1), max_steps=4)
    (played,) = shootout.play(
        imagines, shootout.cem(8, 4, rounds=2), short, execute_steps=2, seed=0, batch=1
    )
    assert (played.num_steps, len(played.plans)) == (4, 2)
    assert imagines.num_encoded_frames == 6  # the goal, and every frame


def test_in_time_is_a_quarter_more_than_the_oracle_needs_and_at_least_a_step(shootout, tasks):
    steps = [e.num_steps for e in evaluate(
        "oracle", baselines(tasks.make_environment())["oracle"], tasks).episodes]  # fmt: skip
    limits = shootout.oracle_limits(tasks)
    assert limits == [max(int(np.ceil(1.25 * count)), count + 1) for count in steps]
    episodes = [SimpleNamespace(is_success=True, num_steps=limit) for limit in limits]
    episodes[1].num_steps += 1
    episodes[2].is_success = False
    found = shootout.in_time(episodes, limits)
    assert found == [True, False, False, True]


# What is printed.


def row(shootout, name, solved, costs=(1.0,)):
    plan = SimpleNamespace(cost=1.0, num_rollouts=10, num_differentiated=0)
    episodes = [shootout.Played(value, 5, [plan]) for value in solved]
    for episode, cost in zip(episodes, costs, strict=False):
        episode.plans[:] = [SimpleNamespace(**{**vars(plan), "cost": cost})]
    return shootout.Row(name, episodes, None, 3.0)


def test_a_rollout_with_its_gradient_counts_as_three(shootout):
    plan = SimpleNamespace(cost=1.0, num_rollouts=10, num_differentiated=6)
    assert shootout.Row("x", [shootout.Played(True, 5, [plan])], None, 3.0).rollouts == 22


def test_energies_are_told_above_the_lowest_that_was_found(shootout, capsys):
    rows = [
        row(shootout, "one", [True, True], (1.0, 4.0)),
        row(shootout, "two", [True, False], (2.0, 2.0)),
    ]
    shootout.print_table("a title", rows)
    one, two = capsys.readouterr().out.splitlines()[-2:]
    assert "+50.0%" in one  # 0 and 100 % above the lowest
    assert "+50.0%" in two


def test_planners_are_paired_with_cem_task_by_task(shootout):
    cem = row(shootout, "CEM", [True, False, False, True, False, False, False, False])
    other = row(shootout, "other", [False, True, True, True, True, True, True, True])
    assert shootout.against(other, cem) == "+6 -1 p=0.12"  # (1 + 7) / 2^7, two-sided
    assert shootout.against(cem, cem) == ""


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_the_tables_name_every_planner_and_the_baselines(shootout, world, monkeypatch, capsys):
    make_quick(shootout, monkeypatch)
    options = ["--quick", "--world", str(world), "--settings", "closed", "noise", "open"]
    shootout.main([*options, "--rollouts", "24", "--milliseconds"])
    printed = capsys.readouterr().out
    for title in ("closed, 24 rollouts: 2 tasks", "noise, 24 rollouts: 2 tasks",
                  "open, 24 rollouts: 2 tasks", "closed: success (in time) by budget"):  # fmt: skip
        table = printed.partition(title)[2]
        for name in shootout.CONTENDERS:
            assert f"\n{name:<17}" in table
    assert printed.count("settings for 24 rollouts") == 2  # one for each horizon
    assert printed.count("\noracle ") == 3


def make_quick(shootout, monkeypatch):
    """One setting of each planner, two tasks to choose on, and short horizons."""
    few = {
        name: contender._replace(grid={key: values[:1] for key, values in contender.grid.items()})
        for name, contender in shootout.CONTENDERS.items()
    }
    short = {
        name: setting._replace(horizon=setting.horizon // 4, execute_steps=2)
        for name, setting in shootout.SETTINGS.items()
    }
    monkeypatch.setattr(shootout, "CONTENDERS", few)
    monkeypatch.setattr(shootout, "SETTINGS", short)
    monkeypatch.setattr(shootout, "TUNING_TASKS", 2)
    monkeypatch.setattr(shootout, "TURNS", 1)


# Any environment.


class Corridor(TwoRooms):
    """An environment that nobody knows the way in: one room, other units, no groups of tasks."""

    draw_task = shortest_path_action = None

    def __init__(self):
        super().__init__(max_steps=6)
        self.name, self.state_units = "corridor", ("cm", "cm")

    def __getattribute__(self, name):
        if name in ("draw_task", "shortest_path_action"):
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_any_world_is_tried_on_any_tasks(shootout, world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("planning.evaluation.make_environment", lambda name: Corridor())
    tasks = freeze_tasks(Corridor(), name="corridor", num_tasks=3, seed=7)
    make_quick(shootout, monkeypatch)
    monkeypatch.setattr(shootout, "CONTENDERS", {"CEM": shootout.CONTENDERS["CEM"]})
    shootout.main(["--world", str(world), "--tasks", str(tasks.save(tmp_path / "corridor.json")),
                   "--rollouts", "16", "--milliseconds", "30", "0.001"])  # fmt: skip
    printed = capsys.readouterr().out
    assert "3 tasks of corridor" in printed
    assert "far, 16 rollouts: 3 tasks" in printed
    assert "settings for 30 ms, horizon 2" in printed
    assert "cannot plan for about 0.001 ms" in printed
    assert "far, 0.001 ms: 3 tasks: no planner can plan for that" in printed
    assert "oracle" not in printed and "straight line" not in printed


def test_tasks_of_another_environment_need_their_world(shootout, tmp_path):
    tasks = freeze_tasks(Corridor(), name="corridor", num_tasks=1, seed=7)
    path = tasks.save(tmp_path / "corridor.json")
    with pytest.raises(ValueError, match=r"has tasks of corridor: say with --world"):
        shootout.demo_world(tmp_path, str(path))
