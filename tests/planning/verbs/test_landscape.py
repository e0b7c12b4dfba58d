"""`jepa plan landscape` through the real command line."""

import json

import numpy as np
import pytest
from PIL import Image

from jepa.__main__ import main
from planning.environments.two_rooms import TwoRooms


@pytest.fixture
def look(checkpoint, tmp_path, capsys):
    def run(*options, world=checkpoint):
        words = ["--checkpoint", world, "--out", tmp_path / "out", "--threads", 1, "--cells", 5]
        code = main(["plan", "landscape", *map(str, [*words, "--start", "12,50", *options])])
        return code, *capsys.readouterr()

    run.out = tmp_path / "out"
    return run


def test_an_untrained_world_is_called_flat_or_misleading_and_the_numbers_are_written(look):
    code, printed, errors = look("--goal-state", "52,20")
    assert errors == ""
    told = json.loads((look.out / "landscape.json").read_text())
    assert code == int(told["is_flat"])
    assert np.array(told["costs"]).shape == (5, 5)
    assert told["names"] == ["dx", "dy"] and told["units"] == ["pixel/step"] * 2
    assert told["relief_in_typical_steps"] >= 0
    assert told["rank_correlation_with_true_distance"] is not None
    assert "relief" in printed and "rank correlation" in printed
    assert len(told["warnings"]) == printed.count("warning: ")
    assert Image.open(look.out / "landscape.png").format == "PNG"


def test_a_world_in_which_actions_do_nothing_is_flat_with_exit_code_1(look, make_checkpoint):
    def forgets_actions(model):
        model.action_std.fill_(1e12)  # every action is normalised to nothing

    world = make_checkpoint(change=forgets_actions)
    code, printed, _ = look("--goal-state", "52,20", world=world)
    assert code == 1
    assert "warning: flat landscape" in printed
    code, printed, _ = look("--goal-state", "52,20", "--cost-term", "action_size=9", world=world)
    assert code == 1  # dear actions make a landscape, but none that leads to the goal
    assert "warning: flat landscape" in printed


def test_a_goal_image_alone_has_no_true_distance(look, tmp_path):
    goal = tmp_path / "goal.png"
    Image.fromarray(TwoRooms().render(np.array([52.0, 20.0]))).save(goal)
    _, printed, _ = look("--goal", goal, "--axes", "dy,dx", "--steps", 1)
    told = json.loads((look.out / "landscape.json").read_text())
    assert told["rank_correlation_with_true_distance"] is None
    assert told["names"] == ["dy", "dx"] and told["num_steps"] == 1
    assert "rank correlation" not in printed


def test_a_place_where_nothing_can_be_written_is_found_before_the_landscape(look, monkeypatch):
    def reset(self, generator, *, start, goal):
        raise AssertionError("nothing may be drawn")

    monkeypatch.setattr(TwoRooms, "reset", reset)
    look.out.write_text("a file of someone")
    code, _, errors = look("--goal-state", "52,20")
    assert code == 2 and f"no file can be written in {look.out}: it is a file" in errors


def test_a_fault_of_ours_is_not_called_a_flat_landscape(look, monkeypatch):
    def reset(self, generator, *, start, goal):
        raise KeyError("x")

    monkeypatch.setattr(TwoRooms, "reset", reset)
    code, _, errors = look("--goal-state", "52,20")
    assert code == 3 and errors.startswith("error: internal error: KeyError")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "no goal: give --goal image.png"),
        (["--axes", "dx,dz"], "--axes must be two of dx, dy, got 'dx,dz'"),
        (["--axes", "dx"], "--axes must be two of dx, dy"),
        (["--cells", "2"], "num_cells at least 3"),
        (["--steps", "0"], "num_steps must be at least 1"),
        (["--steps", "100000000"], "--steps: must be at most 1,000, got '100000000'"),  # for hours
        (["--threads", "-1"], "--threads must be from 1 to 1024, got -1"),
        (["--device", "foo"], "--device 'foo' cannot be used here"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(look, options, expected):
    goal = [] if not options else ["--goal-state", "52,20"]
    code, _, errors = look(*goal, *options)
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and expected in line
