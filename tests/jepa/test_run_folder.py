from pathlib import Path

import pytest

from jepa import run_folder


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/jepa/configs/pretrain/tiny.yaml", "pretrain/tiny"),
        ("configs/tiny.yaml", "tiny"),
        ("/data/mine.yaml", "mine"),
    ],
)
def test_a_run_is_named_after_the_place_of_its_config(path, name):
    assert run_folder.name_after_config([Path(path), Path("override.yaml")]) == name


def test_without_a_config_there_is_no_name():
    assert run_folder.name_after_config([]) is None


@pytest.mark.parametrize("name", ["../other", "/tmp", "a/../../b", ""])
def test_a_name_cannot_leave_the_runs(name):
    with pytest.raises(ValueError, match="relative path without"):
        run_folder.folder_named(name)


def test_a_folder_under_a_file_is_refused_with_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write in the run folder .*--name"):
        run_folder.make_writable(tmp_path / "file" / "run")


def test_an_earlier_run_is_moved_whole_and_foreign_files_stay(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("state")
    (tmp_path / "metrics.csv").write_text("step\n1\n")
    (tmp_path / "notes.txt").write_text("mine")
    place = run_folder.set_aside_earlier_run(tmp_path)
    assert place == tmp_path / "earlier_runs" / "1"
    assert (place / "checkpoints" / "last.ckpt").read_text() == "state"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier_runs", "notes.txt"]


def test_earlier_runs_are_numbered_on(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "metrics.csv").write_text(str(number))
        place = run_folder.set_aside_earlier_run(tmp_path)
        assert place is not None and place.name == str(number)
    assert (tmp_path / "earlier_runs" / "2" / "metrics.csv").read_text() == "2"


def test_an_empty_folder_has_no_earlier_run(tmp_path):
    assert run_folder.set_aside_earlier_run(tmp_path) is None


def test_no_last_checkpoint_is_an_error_not_a_fresh_start(tmp_path):
    with pytest.raises(FileNotFoundError, match="leave --ckpt_path out to start afresh"):
        run_folder.last_checkpoint(tmp_path)


def test_steps_that_come_again_are_dropped_from_the_metrics(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("loss/total,step\n0.3,1\n0.2,2\n0.1,3\n")
    run_folder.drop_metrics_from(metrics, step=3)
    assert metrics.read_text().splitlines() == ["loss/total,step", "0.3,1", "0.2,2"]


def test_metrics_that_are_not_there_are_no_error(tmp_path):
    run_folder.drop_metrics_from(tmp_path / "metrics.csv", step=3)
