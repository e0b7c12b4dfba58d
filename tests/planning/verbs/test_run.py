"""`jepa plan run` through the real command line: what it writes, says and returns."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planning.environments.two_rooms import TwoRooms
from planning.planners.random_shooting import RandomShooting

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--planner", "random_shooting", "--set", "num_samples=16", "--horizon", "4"]
QUICK = ["--no-pictures", *SMALL]
PROCESS = ("--async", "--planner-process", "--period-ms", 20, "--threads", 1)


# What it leaves.


def test_it_writes_a_film_a_landscape_and_a_log_of_every_plan(jepa_plan, goal_png):
    code, printed, errors = jepa_plan(
        "run", "--goal", goal_png(), "--max-steps", 6, "--execute", 2, "--reached-distance", 1e-9,
        *SMALL,
    )  # fmt: skip
    assert (code, errors) == (1, [])
    with Image.open(jepa_plan.out / "episode.gif") as film:
        assert film.format == "GIF" and film.n_frames == 7
    with Image.open(jepa_plan.out / "landscape.png") as picture:
        assert picture.format == "PNG" and picture.width > 800
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert [plan["step"] for plan in log["plans"]] == [0, 2, 4]
    assert len(log["steps"]["actions"]) == 6 and len(log["steps"]["states"]) == 7
    for plan in log["plans"]:
        assert np.isfinite(plan["cost"]) and plan["milliseconds"] > 0
        assert np.abs(plan["actions"]).max() <= 5 and len(plan["actions"]) == 4
        assert 0 <= plan["saturation"] <= 1 and plan["num_rollouts"] == 16
    planner = log["settings"]["planner"]
    assert (planner["class"], planner["horizon"], planner["num_samples"]) == (
        "RandomShooting", 4, 16,
    )  # fmt: skip
    assert log["result"]["judge"] == "latent distance"
    assert log["result"]["final_distance"] is None  # not NaN: JSON has none
    assert {"torch", "python", "jepa-planning"} <= log["versions"].keys()
    assert printed.count("latent distance ") >= 3 and "\r" not in printed  # no bar: no terminal


def test_a_known_goal_state_is_judged_by_the_simulator(jepa_plan):
    code, printed, _ = jepa_plan(
        "run", "--goal-state", "52,20", "--max-steps", 2, "--execute", 2, *QUICK
    )
    assert code == 1
    assert "goal not reached after 2 steps" in printed and "(the simulator judges)" in printed
    code, printed, _ = jepa_plan("run", "--goal-state", "13,51", *QUICK)  # within 4 pixels
    assert code == 0
    assert "goal reached after 0 steps" in printed


def test_of_an_image_alone_the_latent_distance_judges_and_it_is_said(jepa_plan, goal_png):
    code, printed, _ = jepa_plan("run", "--goal", goal_png((12.0, 50.0)), *QUICK)
    assert code == 0
    assert "goal reached after 0 steps, 0 plans; judged by the latent distance" in printed


def test_several_goals_are_pursued_in_order(jepa_plan, goal_png):
    first, second = goal_png((12.0, 30.0), name="a.png"), goal_png(name="b.png")
    code, printed, _ = jepa_plan(
        "run", "--goal", first, "--goal", second, "--max-steps", 3, "--reached-distance", 1e-9,
        "--sub-goal-steps", 1, "--execute", 3, *QUICK,
    )  # fmt: skip
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert code == 1
    assert [plan["goal_index"] for plan in log["plans"]] == [0, 1]  # and the queue was dropped
    assert "goal 1/2" in printed and "goal 2/2" in printed


def test_an_asynchronous_run_keeps_real_time_and_counts_what_was_late(jepa_plan):
    began = time.monotonic()
    code, printed, _ = jepa_plan(
        "run", "--goal-state", "52,20", "--max-steps", 10, "--async", "--period-ms", 30,
        "--deadline-ms", 20, "--stale", "zero", "--execute", 1, *QUICK,
    )  # fmt: skip
    assert code == 1 and time.monotonic() - began > 0.3
    assert "steps until the first plan" in printed
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["lateness"]["num_plans"] == len(log["plans"]) >= 1
    assert np.isfinite(log["steps"]["actions"]).all()


@pytest.mark.parametrize("goal", ["state", "image"])
def test_a_planner_in_a_process_of_its_own_plans_what_was_asked_for(
    jepa_plan, goal_png, monkeypatch, goal
):
    """Seen to fail without `submit=`: the thread of this process is refused its search."""
    monkeypatch.setattr(RandomShooting, "plan", lambda *_, **__: pytest.fail("planned here"))
    wanted = ("--goal-state", "52,20") if goal == "state" else ("--goal", goal_png())
    code, printed, errors = jepa_plan(
        "run", *wanted, "--max-steps", 40, "--reached-distance" if goal == "image" else "--seed",
        "1e-9" if goal == "image" else 3, "--cost-term", "action_size=0.1", *PROCESS, *QUICK,
    )  # fmt: skip
    assert (code, errors) == (1, [])
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["lateness"]["num_plans"] == len(log["plans"]) >= 1
    assert all(plan["cost_parts"].keys() == {"goal", "action_size"} for plan in log["plans"])
    assert goal == "state" or "reached below 1e-09" in printed
    assert not multiprocessing.active_children()


def test_a_planner_process_that_is_killed_ends_the_run_in_one_line(jepa_plan, monkeypatch):
    """Seen to fail without `--planner-process`: there is nothing to kill."""
    step, taken = TwoRooms.step, []

    def kills(self, action):
        for planner in multiprocessing.active_children():  # none before the run
            taken.append(action)
            planner.kill()
        return step(self, action)

    monkeypatch.setattr(TwoRooms, "step", kills)
    code, _, (error,) = jepa_plan(
        "run", "--goal-state", "52,20", "--max-steps", 400, *PROCESS, *QUICK
    )
    assert code == 2 and "its process died (signal 9)" in error
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert taken and log["result"]["error"].startswith("SafeStop")


def test_the_same_seed_gives_the_same_run(jepa_plan):
    def actions(seed):
        jepa_plan("run", "--goal-state", "52,20", "--max-steps", 4, "--seed", seed, *QUICK)
        return json.loads((jepa_plan.out / "log.json").read_text())["steps"]["actions"]

    assert actions(1) == actions(1) != actions(2)


def test_limits_of_a_file_hold_for_whatever_is_sent(jepa_plan, goal_png, tmp_path):
    limits = tmp_path / "limits.yaml"
    limits.write_text("max_change: {dx: 0.5, dy: .inf}\nworkspace: {}\n")
    words = ("--goal", goal_png(), "--max-steps", 6, "--reached-distance", 1e-9, *QUICK)
    assert jepa_plan("run", *words, "--robot-limits", limits)[0] == 1
    actions = json.loads((jepa_plan.out / "log.json").read_text())["steps"]["actions"]
    sent = np.array([[0, 0], *actions])
    assert (np.abs(np.diff(sent[:, 0])) <= 0.501).all() and np.abs(np.diff(sent[:, 1])).max() > 0.51
    limits.write_text("max_change: {dx: 0.5}\nworkspace: {}\n")
    code, _, errors = jepa_plan("run", *words, "--robot-limits", limits)
    assert code == 2 and "max_change says nothing of dy" in errors[0]


def test_a_config_holds_options_and_the_command_line_wins(jepa_plan, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "planner: random_shooting\nset: {num_samples: 16, horizon: 4}\nmax-steps: 6\nexecute: 2\n"
    )
    jepa_plan("run", "--config", config, "--goal-state", "52,20", "--max-steps", 2, "--no-pictures")
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["settings"]["planner"]["num_samples"] == 16
    assert len(log["steps"]["actions"]) == 2
    config.write_text("planer: cem\n")
    code, _, (error,) = jepa_plan("run", "--config", config, "--goal-state", "52,20")
    assert code == 2 and "there is no option 'planer'; did you mean 'planner'?" in error


# How it imagines, and what it chooses.


def first_plan(jepa_plan, *options, world=None):
    worlds = {} if world is None else {"world": world}
    code, _, errors = jepa_plan(
        "run", "--goal-state", "52,20", "--max-steps", 1, *QUICK, *options, **worlds
    )
    assert (code, errors) == (1, [])
    log = json.loads((jepa_plan.out / "log.json").read_text())
    return log["plans"][0], log["settings"]


def test_in_bf16_costs_are_nearly_those_of_fp32(jepa_plan):
    exact, settings = first_plan(jepa_plan)
    assert settings["world"]["precision"] == "fp32"
    rough, settings = first_plan(jepa_plan, "--precision", "bf16")
    assert settings["world"]["precision"] == "bf16"
    assert rough["cost"] != exact["cost"]
    assert rough["cost"] == pytest.approx(exact["cost"], rel=0.05)


def test_where_nothing_can_be_compiled_it_plans_all_the_same_and_the_log_says_so(
    jepa_plan, monkeypatch
):
    """What is compiled is tested in test_latent_world.py: it takes minutes."""
    plain, _ = first_plan(jepa_plan)

    def broken(*arguments, **options):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx_inner", broken)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    same, settings = first_plan(jepa_plan, "--compile")
    assert settings["options"]["compile"] is True
    assert settings["world"]["is_compiled"] is False
    assert same["actions"] == plain["actions"]


def test_a_plan_through_few_knots_is_straight_between_them(jepa_plan):
    plan, settings = first_plan(jepa_plan, "--knots", "2", "--spline", "linear")
    actions = np.array(plan["actions"])
    assert np.abs(np.diff(actions, axis=0)).max() > 0.01
    assert np.abs(np.diff(actions, n=2, axis=0)).max() < 1e-5
    assert settings["planner"]["parameterization"] == "SplineKnots(num_knots=2, order='linear')"
    held, settings = first_plan(jepa_plan, "--repeat", "2")
    assert held["actions"][0] == held["actions"][1] != held["actions"][2] == held["actions"][3]
    assert settings["planner"]["parameterization"] == "Repeat(num_steps=2)"


@pytest.mark.parametrize("mode", [[], ["--async", "--period-ms", "50"]], ids=["waits", "async"])
def test_a_world_model_of_several_frames_plans_while_acting_too(jepa_plan, make_checkpoint, mode):
    world = make_checkpoint(context_frames=3)
    code, _, errors = jepa_plan(
        "run", "--goal-state", "52,20", "--max-steps", 60, "--execute", 1, *QUICK, *mode,
        world=world,
    )  # fmt: skip
    assert (code, errors) == (1, [])
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["settings"]["world"]["context_frames"] == 3
    assert len(log["plans"]) >= 2


# What is left when a run fails.


@pytest.fixture
def to_image(goal_png):
    """A goal image alone: the landscape before the run knows no true distances, nothing acts."""
    return "run", "--goal", goal_png(), "--reached-distance", 1e-9, *QUICK


def breaks_at(step, error, monkeypatch, *, is_over=False):
    """The simulator raises when it is told to execute this action, counted from 1.

    With `is_over` the ones before end what it takes for the episode.
    """
    real, told = TwoRooms.step, []

    def broken(self, action):
        told.append(action)
        if len(told) == step:
            raise error
        time_step = real(self, action)
        return time_step._replace(is_last=is_over or time_step.is_last)

    monkeypatch.setattr(TwoRooms, "step", broken)


def test_a_run_that_fails_leaves_its_plans_its_steps_and_the_error(
    jepa_plan, to_image, monkeypatch
):
    breaks_at(4, OSError("the camera is gone"), monkeypatch)
    code, printed, (error,) = jepa_plan(*to_image, "--execute", 2)
    assert code == 2 and "the camera is gone" in error
    assert "wrote log.json, of a run that was cut short" in printed
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["result"]["error"].startswith("OSError: the camera is gone")
    assert log["result"]["is_success"] is False and log["result"]["judge"] is None
    assert [plan["step"] for plan in log["plans"]] == [0, 2]
    assert log["result"]["num_plans"] == 2
    states, actions = log["steps"]["states"], log["steps"]["actions"]
    assert len(states) == len(actions) + 1 >= 5  # what stops the robot may follow
    assert states[0] == [12, 50] and np.isfinite(states[:4]).all()
    assert states[4] == [None, None]  # nobody knows where the fourth action led
    assert np.array(actions[:2]) == pytest.approx(np.array(log["plans"][0]["actions"][:2]))
    assert log["settings"]["planner"]["num_samples"] == 16


def test_a_simulator_that_is_begun_anew_on_the_way_costs_the_log_no_step(
    jepa_plan, to_image, monkeypatch
):
    breaks_at(3, OSError("the camera is gone"), monkeypatch, is_over=True)
    code, *_ = jepa_plan(*to_image)
    log = json.loads((jepa_plan.out / "log.json").read_text())
    states = log["steps"]["states"]
    assert code == 2 and np.isfinite(states[:3]).all() and states[3] == [None, None]


def test_a_fault_of_ours_has_an_exit_code_of_its_own_and_leaves_a_log(
    jepa_plan, to_image, monkeypatch
):
    breaks_at(2, KeyError("x"), monkeypatch)
    code, _, (error,) = jepa_plan(*to_image)
    assert code == 3  # 1 would say that the goal was not reached
    assert error.startswith("error: internal error: KeyError: ")
    log = json.loads((jepa_plan.out / "log.json").read_text())
    assert log["result"]["error"].startswith("KeyError: 'x'") and len(log["plans"]) == 1


def test_a_run_that_ends_as_it_should_has_no_error_in_its_log(jepa_plan):
    jepa_plan("run", "--goal-state", "52,20", "--max-steps", 1, *QUICK)
    result = json.loads((jepa_plan.out / "log.json").read_text())["result"]
    assert result["error"] is None and result["judge"] == "simulator"


# What is refused: one line, exit code 2.


def never_acts(monkeypatch):
    def step(self, action):
        raise AssertionError("nothing may be executed")

    monkeypatch.setattr(TwoRooms, "step", step)


def test_a_place_where_nothing_can_be_written_is_found_before_the_run(jepa_plan, monkeypatch):
    never_acts(monkeypatch)
    folder, goal = jepa_plan.out, ("--goal-state", "52,20")
    folder.write_text("a file of someone")
    code, _, (error,) = jepa_plan("run", *goal, *QUICK)
    assert code == 2 and f"--out: no file can be written in {folder}: it is a file" in error
    code, _, (error,) = jepa_plan("run", *goal, *QUICK, "--out", folder / "below")
    assert code == 2 and f"no file can be written in {folder / 'below'}: Not a dir" in error
    assert folder.read_text() == "a file of someone"


@pytest.mark.parametrize("name", ["log.json", "episode.gif", "landscape.png"])
def test_a_result_whose_name_is_taken_by_a_folder_is_found_before_the_run(
    jepa_plan, monkeypatch, name
):
    never_acts(monkeypatch)
    (jepa_plan.out / name).mkdir(parents=True)
    code, _, (error,) = jepa_plan("run", "--goal-state", "52,20", *SMALL)
    assert code == 2 and f"{name} cannot be written, it is a folder" in error


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--stale", "hold"], "--stale is of --async runs only; add --async, or leave it out"),
        (["--period-ms", "50"], "--period-ms is of --async runs only; add --async"),
        (["--planner-process"], "--planner-process is of --async runs only; add --async"),
        (["--give-up-seconds", "5"], "--give-up-seconds is of --planner-process only; add that"),
        (["--give-up-seconds", "0"], "--give-up-seconds must be from 0.1 to 3600, got 0"),
        (["--reached-distance", "1"], "--reached-distance would decide nothing: with --goal-state"),
        (["--sub-goal-steps", "3"], "--sub-goal-steps needs at least 2 --goal, got 0"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(jepa_plan, monkeypatch, options, expected):
    never_acts(monkeypatch)
    code, _, (error,) = jepa_plan("run", "--goal-state", "52,20", *options, *QUICK)
    assert code == 2 and expected in error


def test_of_one_image_whose_state_is_known_the_simulator_judges_too(jepa_plan, goal_png):
    known = ("--goal", goal_png(), "--goal-state", "52,20")
    code, _, (error,) = jepa_plan("run", *known, "--reached-distance", 1, *QUICK)
    assert code == 2 and "--reached-distance would decide nothing" in error
    code, _, (error,) = jepa_plan("run", "--goal", goal_png(), "--sub-goal-steps", 3, *QUICK)
    assert code == 2 and "--sub-goal-steps needs at least 2 --goal, got 1" in error


def test_sub_goals_are_reached_by_latent_distance_although_a_simulator_judges(jepa_plan, goal_png):
    code, printed, errors = jepa_plan(
        "run", "--goal", goal_png(), "--goal", goal_png(), "--goal-state", "52,20",
        "--reached-distance", 1e9, "--max-steps", 2, *QUICK,
    )  # fmt: skip
    assert (code, errors) == (1, []) and "goal 2/2" in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "no goal: give --goal image.png, or --goal-state x,y"),
        (["--goal-state", "1,2,3"], "--goal-state must be 2 numbers (x,y of two_rooms), got"),
        (["--goal-state", "nan,2"], "--goal-state must be 2 numbers"),
        (["--goal-state", "32,60"], "goal must be a free position (x, y) in pixels, got [32.0"),
        (["--horizon", "0"], "horizon must be at least 1, got 0"),
        (["--elites", "300"], "num_elites=300 exceeds num_samples=128; raise num_samples"),
        (["--deadline-ms", "0"], "--deadline-ms must be above 0, got 0; without it there is none"),
        (["--deadline-ms", "-5"], "--deadline-ms must be above 0, got -5"),
        (["--deadline-ms", "nan"], "--deadline-ms must be above 0, got nan"),
        (["--execute", "9"], "--execute must be from 1 to the horizon 8, got 9"),
        (["--planner", "mpi"], "no planner 'mpi'; did you mean 'mppi'"),
        (["--set", "num_sample=3"], "cem has no setting 'num_sample'; did you mean 'num_samples'?"),
        (["--set", "horizon"], "--set needs KEY=VALUE, got 'horizon'"),
        (["--set", "horizon=far"], "cem: horizon must be a whole number, got 'far'"),
        (["--env", "two_room"], "no environment 'two_room'; did you mean 'two_rooms'?"),
        (["--max-steps", "0"], "--max-steps must be at least 1, got 0"),
        (["--async", "--period-ms", "0"], "--period-ms must be from 0.1 to 60000, got 0"),
        (["--async", "--period-ms", "inf"], "--period-ms must be from 0.1 to 60000, got inf"),
        (["--async", "--period-ms", "nan"], "--period-ms must be from 0.1 to 60000, got nan"),
        (["--threads", "0"], "--threads must be from 1 to 1024, got 0; without it torch chooses"),
        (["--threads", "-1"], "--threads must be from 1 to 1024, got -1"),
        (["--threads", "99999"], "--threads must be from 1 to 1024, got 99999"),
        (["--device", "foo"], "--device 'foo' cannot be used here: "),
        (["--device", "cuda:99"], "--device 'cuda:99' cannot be used here: "),
        (["--device", "meta"], "--device 'meta' cannot be used here: "),
        (["--reached-distance", "0"], "the latent distance of a goal must be above 0, got 0.0"),
        (["--knots", "9"], "num_knots must be from 1 to the horizon 8, got 9"),
        (["--precision", "fp16"], "argument --precision: invalid choice: 'fp16'"),
        (["--horizont", "3"], "unrecognized arguments: --horizont 3"),
        (["--config", "nowhere.yaml"], "no config 'nowhere.yaml'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(jepa_plan, options, expected):
    has_goal = not options or "--goal-state" in options
    goal = [] if has_goal else ["--goal-state", "52,20"]
    code, _, errors = jepa_plan("run", *goal, *options)
    assert code == 2
    (line,) = errors
    assert line.startswith("error: ") and expected in line


def test_a_goal_image_of_another_size_is_refused_or_resized(jepa_plan, goal_png):
    wide = goal_png(size=(128, 96), name="wide.jpg")
    code, _, (error,) = jepa_plan("run", "--goal", wide, *QUICK)
    assert code == 2
    assert "wide.jpg is 128 x 96 pixels, the world model sees 64 x 64" in error
    assert "--resize-goal" in error
    code, *_ = jepa_plan(
        "run", "--goal", wide, "--resize-goal", "--max-steps", 1, "--execute", 1, *QUICK
    )
    assert code in (0, 1)


def test_images_that_cannot_be_read_are_named(jepa_plan, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    code, _, (error,) = jepa_plan("run", "--goal", broken)
    assert code == 2 and "broken.png" in error
    code, _, (error,) = jepa_plan("run", "--goal", tmp_path / "none.png")
    assert code == 2 and "no image file" in error and "none.png" in error


def test_a_missing_checkpoint_is_named(jepa_plan, tmp_path):
    code, _, (error,) = jepa_plan("run", "--goal-state", "52,20", world=tmp_path / "nowhere")
    assert code == 2 and "no LatentWorldModel in" in error and "nowhere" in error


def test_a_world_model_of_other_actions_or_frames_is_refused(jepa_plan, make_checkpoint):
    code, _, (error,) = jepa_plan(
        "run", "--goal-state", "52,20", world=make_checkpoint(action_dim=3)
    )
    assert code == 2
    assert "the world model imagines actions of 3 dimensions, two_rooms has 2 (dx, dy)" in error
    code, _, (error,) = jepa_plan(
        "run", "--goal-state", "52,20", world=make_checkpoint(image_size=32)
    )
    assert code == 2
    assert "the world model sees 32 x 32 pixels, two_rooms shows 64 x 64" in error


@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("part", ["encoder", "dynamics"])
def test_nan_weights_never_move_the_robot(
    jepa_plan, make_checkpoint, monkeypatch, part, is_asynchronous
):
    executed = []
    monkeypatch.setattr(TwoRooms, "step", lambda self, action: executed.append(action))

    def breaks(model):
        for parameter in getattr(model, part).parameters():
            parameter.fill_(float("nan"))

    code, _, (error,) = jepa_plan(
        "run", "--goal-state", "52,20", *(["--async"] if is_asynchronous else []),
        world=make_checkpoint(change=breaks),
    )  # fmt: skip
    assert code == 2 and executed == []
    assert "NaN" in error or "finite" in error


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("mode", [[], ["--async"]])
def test_ctrl_c_ends_a_run_in_one_line(checkpoint, tmp_path, mode):
    process = subprocess.Popen(
        [
            sys.executable, "-m", "jepa", "plan", "run", "--checkpoint", str(checkpoint),
            "--start", "12,50", "--goal-state", "52,20", "--max-steps", "100000", "--set",
            "num_iterations=50", "--out", str(tmp_path), "--threads", "1", *mode,
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while not process.stdout.readline().startswith("step "):  # the first plan
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")
    log = json.loads((tmp_path / "log.json").read_text())
    assert log["result"]["error"] == "KeyboardInterrupt" and len(log["plans"]) >= 1
