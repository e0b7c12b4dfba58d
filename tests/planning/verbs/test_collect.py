"""`jepa data collect` on environments of ours; Gymnasium's go where they always went."""

import json

import pytest

from data_pipelines.shards import ShardIndex
from jepa.__main__ import main
from planning.verbs.collect import options_of

SMALL = ["--env", "two_rooms", "--set", "image_size=32", "--episodes", "3", "--steps", "6"]


def test_it_records_and_says_what_the_episodes_cover(tmp_path, capsys):
    assert main(["data", "collect", *SMALL, "--policy", "expert", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "collected 3 episodes of two_rooms" in told and "18 in 3 episodes" in told
    assert ShardIndex.load(tmp_path / "out").num_samples == 3
    assert json.loads((tmp_path / "out" / "coverage.json").read_text())["num_steps"] == 18
    assert main(["data", "collect", *SMALL, "--policy", "expert", str(tmp_path / "out")]) == 0
    assert "already there: 3 episodes" in capsys.readouterr().out


def test_a_planner_records_with_a_world_model(tmp_path, checkpoint):
    words = ["--env", "two_rooms", "--episodes", "1", "--steps", "3", "--policy", "planner"]
    words += ["--checkpoint", str(checkpoint), "--planner", "random_shooting", "--horizon", "2"]
    assert main(["data", "collect", *words, str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "coverage.json").read_text())
    assert written["policy"]["planner"]["class"] == "RandomShooting"
    assert written["policy"]["planner"]["horizon"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "two_room"], "did you mean 'two_rooms'"),
        (["--env", "two_rooms", "--policy", "clever"], "policy must be random, expert"),
        (["--env", "two_rooms", "--policy", "planner"], "needs a world model"),
        (["--env", "two_rooms", "--set", "image_size"], "--set needs KEY=VALUE"),
        (["--env", "two_rooms", "--set", "image_siz=32"], "no option 'image_siz'"),
        (["--env", "two_rooms", "--vary", "colour.moon"], "cannot vary colour.moon"),
        (["--env", "two_rooms", "--episodes", "0"], "num_episodes and num_steps must be at least"),
        (["--env", "two_rooms", "--episode", "x"], "argument --episodes: invalid int value: 'x'"),
    ],
)
def test_what_is_no_good_is_one_line(words, message, tmp_path, capsys):
    assert main(["data", "collect", *words, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_gymnasium_environments_are_recorded_by_the_data_pipelines(tmp_path, capsys):
    assert main(["data", "collect", "--env", "NoSuchTask-v1", str(tmp_path / "out")]) == 2
    assert "NoSuchTask" in capsys.readouterr().err
    assert main(["data", "collect", "--help"]) == 0
    assert "--state-key" in capsys.readouterr().out


def test_options_are_numbers_truths_or_text():
    pairs = ["image_size=64", "gain=0.5", "is_dark=true", "camera=side"]
    expected = {"image_size": 64, "gain": 0.5, "is_dark": True, "camera": "side"}
    assert options_of(pairs) == expected
