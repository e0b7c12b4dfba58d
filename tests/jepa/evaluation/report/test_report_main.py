import json

import pytest

from jepa import command_line
from jepa.evaluation.report import __main__ as report_main
from jepa.evaluation.report import writing


@pytest.fixture
def few_sections(monkeypatch):
    names = ("predicted-neighbours", "surprise")
    monkeypatch.setattr(
        writing.make_report, "__kwdefaults__",
        {"sections": {name: writing.SECTIONS[name] for name in names}},
    )  # fmt: skip


def test_the_verb_writes_the_page_and_says_what_it_found(
    world_folder, recordings, tmp_path, capsys, few_sections
):
    out, numbers = tmp_path / "a" / "page.html", tmp_path / "numbers.json"
    words = [world_folder, "--data", recordings, "--out", str(out), "--numbers", str(numbers),
             "--clips", "6", "--horizon", "3"]  # fmt: skip
    assert report_main.main(words) == 0
    said = capsys.readouterr().out
    assert "3 actions ahead" in said and f"wrote {out} (" in said
    assert "not measured: Is the impossible surprising?: no videos" in said
    assert json.loads(numbers.read_text())["command"].startswith("jepa report")
    assert out.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--clips", "1", "--clips must be at least 2, got 1"),
        ("--horizon", "0", "--horizon must be at least 1, got 0"),
        ("--decoder-steps", "-1", "--decoder-steps must be at least 0, got -1"),
        ("--out", ".", "is a folder; name a file"),
    ],
)
def test_what_is_out_of_range_is_one_line(option, value, message, capsys):
    code = command_line.run(report_main.main, ["two_rooms", "--data", "x", option, value])
    assert code == 2 and message in capsys.readouterr().err


def test_data_that_are_not_there_are_one_line(world_folder, tmp_path, capsys):
    words = [world_folder, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "x.html")]
    assert command_line.run(report_main.main, words) == 2
    error = capsys.readouterr().err
    assert "none" in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x.html").exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        report_main.main(["--help"])
    assert "jepa report two_rooms --data held_out" in capsys.readouterr().out
