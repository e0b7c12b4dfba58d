"""`jepa plan compare`, on folders that `evaluate --card` wrote."""

import json
import shutil

import pytest

from jepa.__main__ import main

QUICK = (
    "--episodes",
    "6",
    "--samples",
    "4",
    "--elites",
    "2",
    "--iterations",
    "1",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def runs(make_checkpoint, tmp_path_factory):
    """Two short runs of the two_rooms card, with two controls."""
    folder = tmp_path_factory.mktemp("runs")
    checkpoint = make_checkpoint()
    for name, seed in (("a", "0"), ("b", "1")):
        words = ["--checkpoint", str(checkpoint), "--card", "two_rooms", "--seed", seed, *QUICK]
        words += ["--controls", "do_nothing,expert", "--out", str(folder / name), "--batch", "6"]
        assert main(["plan", "evaluate", *words]) == 0
    return folder


def test_a_control_is_compared_with_another_of_the_same_run(runs, capsys):
    words = [str(runs / "a"), str(runs / "a"), "--policy-a", "expert", "--policy-b", "do_nothing"]
    assert main(["plan", "compare", *words]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("two_rooms v1")
    assert "of 6 tasks: both 0, only A 6, only B 0, neither 0" in printed
    assert "p = 0.0312: they differ" in printed  # 2 / 2 ** 6


def test_two_runs_are_compared_and_their_deviations_told(runs, capsys):
    assert main(["plan", "compare", str(runs / "a"), str(runs / "b")]) == 0
    printed = capsys.readouterr().out
    assert "A - B: " in printed
    for side in "AB":
        assert f"{side} deviates: the first 6 of 200 tasks" in printed
        assert f"{side} deviates: num_samples 4 (card: 128)" in printed


def test_a_run_of_another_version_is_refused(runs, tmp_path, capsys):
    other = shutil.copytree(runs / "a", tmp_path / "other")
    summary = json.loads((other / "summary.json").read_text())
    summary["card"]["version"] = 2
    (other / "summary.json").write_text(json.dumps(summary))
    assert main(["plan", "compare", str(runs / "a"), str(other)]) == 2
    assert "cannot be compared: version 1" in capsys.readouterr().err


def test_what_is_no_run_is_named(runs, tmp_path, capsys):
    assert main(["plan", "compare", str(runs / "a"), str(tmp_path)]) == 2
    assert "holds no summary.json" in capsys.readouterr().err
