import json
import re

import pytest

from jepa import command_line
from jepa.evaluation.world_model_card.__main__ import main, named_shards


def test_the_card_of_the_shipped_world_model(two_rooms_shards, blue_shards, tmp_path, capsys):
    out, figures = tmp_path / "results" / "card.json", tmp_path / "figures"
    words = ["--model", "two_rooms", "--data", two_rooms_shards, "--shift", f"blue={blue_shards}"]
    words += ["--horizon", "5", "--windows", "2", "--repeats", "2", "--samples", "4"]
    assert main([*words, "--out", str(out), "--figures", str(figures)]) == 0
    text = capsys.readouterr().out
    assert "PASS           causality" in text
    assert "PASS           controllability" in text
    card = json.loads(out.read_text())
    assert card["controllability"]["shuffled_ratio"]["low"] > 2
    assert card["drift"]["useful_horizon"] == 5
    assert card["generalisation"]["shifts"][0]["num_episodes"] == 6
    assert card["generalisation"]["shifts"][0]["error_ratio"]["value"] > 1.5
    assert {path.name for path in figures.iterdir()} == {
        "drift.png", "response.png", "latency.png", "shifts.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shift", "blue"], "--shift must be NAME=SHARDS, such as mass=heavy, got 'blue'"),
        (["--shift", "a=x", "--shift", "a=y"], "--shift a is given twice"),
        (["--horizon", "3"], "--horizon 3 leaves no room for 2 hidden frames: it must be .* 4"),
        (["--model", "three_rooms"], "three_rooms"),
        (["--data", "nowhere"], "nowhere"),
        (["--deadline-hz", "0"], "deadline_hz must be above 0"),
    ],
)
def test_what_the_user_can_mend_is_one_line(words, message, two_rooms_shards, capsys):
    base = ["--model", "two_rooms", "--data", two_rooms_shards, "--repeats", "1"]
    assert command_line.run(main, [*base, *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--shift mass=held_out_heavy" in capsys.readouterr().out


def test_shards_are_named():
    assert named_shards(["mass=a/b", "colour=s3://x=y"]) == {"mass": "a/b", "colour": "s3://x=y"}
