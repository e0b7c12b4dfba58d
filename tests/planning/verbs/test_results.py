"""`jepa plan results`, on a folder that `evaluate --card` wrote."""

import json
import shutil

import pytest

from jepa.__main__ import main


@pytest.fixture(scope="module")
def run(make_checkpoint, tmp_path_factory):
    """A short run of the two_rooms card."""
    out = tmp_path_factory.mktemp("runs") / "a"
    words = ["--checkpoint", str(make_checkpoint()), "--card", "two_rooms", "--episodes", "2"]
    words += ["--samples", "4", "--elites", "2", "--iterations", "1", "--controls", "do_nothing"]
    assert main(["plan", "evaluate", *words, "--threads", "1", "--out", str(out)]) == 0
    return out


def test_the_page_is_written_from_the_run(run, tmp_path, capsys):
    page = tmp_path / "docs" / "benchmarks.md"
    assert main(["plan", "results", str(run), "--write", str(page)]) == 0
    assert "wrote 1 runs: " in capsys.readouterr().out
    text = page.read_text()
    assert "## two_rooms v1" in text and "| do_nothing [1] |" in text
    assert "**deviates from the card**: " in text and "the first 2 of 200 tasks" in text
    assert "`jepa plan evaluate --checkpoint " in text


def test_a_folder_of_runs_is_read_whole(run, tmp_path, capsys):
    page = tmp_path / "page.md"
    assert main(["plan", "results", str(run.parent), "--write", str(page)]) == 0
    assert "wrote 1 runs: " in capsys.readouterr().out
    assert "**deviates from the card**" in page.read_text()


def test_an_edited_summary_is_refused(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "edited")
    file = other / "summary.json"
    summary = json.loads(file.read_text())
    summary["policies"][0]["success"]["rate"] = 0.97
    file.write_text(json.dumps(summary))
    assert main(["plan", "results", str(other)]) == 2
    assert "summary.json says success" in capsys.readouterr().err


def test_without_a_file_the_page_is_printed(run, capsys):
    assert main(["plan", "results", str(run)]) == 0
    assert capsys.readouterr().out.startswith("# Benchmarks")


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert main(["plan", "results", str(tmp_path)]) == 2
    assert "holds no summary.json" in capsys.readouterr().err
