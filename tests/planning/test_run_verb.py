"""`jepa plan run` through the real command line: what it writes, says and returns."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepa.__main__ import main
from planning.environments.two_rooms import TwoRooms

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--planner", "random_shooting", "--set", "num_samples=16", "--horizon", "4"]
QUICK = ["--no-pictures", *SMALL]


@pytest.fixture
def jepa_plan(checkpoint, tmp_path, capsys):
    """Runs a verb in real; returns the exit code, what was printed, and the error lines."""

    def run(verb, *options, world=checkpoint, goes=("--start", "12,50")):
        words = [
            verb,
            "--checkpoint",
            world,
            "--out",
            tmp_path / "out",
            "--threads",
            1,
            "--cells",
            3,
            *goes,
        ]
        code = main(["plan", *map(str, [*words, *options])])
        printed, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return code, printed, errors.splitlines()

    run.out = tmp_path / "out"
    return run


@pytest.fixture
def goal_png(tmp_path):
    def write(place=(52.0, 20.0), size=None, name="goal.png"):
        picture = Image.fromarray(TwoRooms().render(np.array(place)))
        (picture.resize(size) if size else picture).save(tmp_path / name)
        return tmp_path / name

    return write


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


def test_the_same_seed_gives_the_same_run(jepa_plan):
    def actions(seed):
        jepa_plan("run", "--goal-state", "52,20", "--max-steps", 4, "--seed", seed, *QUICK)
        return json.loads((jepa_plan.out / "log.json").read_text())["steps"]["actions"]

    assert actions(1) == actions(1) != actions(2)


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


# What is refused: one line, exit code 2.


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
        (["--period-ms", "0"], "--period-ms must be above 0, got 0"),
        (["--reached-distance", "0"], "the latent distance of a goal must be above 0, got 0.0"),
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
    while "step" not in process.stdout.readline():  # the first plan
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")
