"""A folder of a model is whole or refused, whatever happens while it is written."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from jepa.checkpoints import folder_writing
from jepa.checkpoints.folder_writing import finish_writing, write_folder
from jepa.checkpoints.manifest import refuse_damage

TEXTS = {"config.json": "{}", "README.md": "a card"}
WHOLE = ["README.md", "config.json", "model.safetensors", "sha256.json"]


@pytest.fixture
def weights():
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_files_are_written_and_no_other(weights, tmp_path):
    write_folder(tmp_path / "new" / "model", weights, TEXTS)
    folder = tmp_path / "new" / "model"
    assert names_in(folder) == WHOLE
    assert torch.equal(load_file(folder / "model.safetensors")["a"], weights["a"])
    assert (folder / "README.md").read_text() == "a card"


def test_tensors_that_share_memory_are_each_written(tmp_path):
    whole = torch.arange(12.0).view(4, 3)
    parts = {"whole": whole, "same": whole, "part": whole[1:3], "turned": whole.T}
    halves = {"first": whole[:2], "second": whole[2:]}
    for index, weights in enumerate((parts, halves)):
        write_folder(tmp_path / str(index), weights, TEXTS)
        loaded = load_file(tmp_path / str(index) / "model.safetensors")
        assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_others_may_read_the_weights_if_they_may_read_the_config(weights, tmp_path):
    before = os.umask(0o027)
    try:
        write_folder(tmp_path, weights, TEXTS)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o640}


def test_a_failure_leaves_nothing_behind(weights, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(folder_writing, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        write_folder(tmp_path / "new" / "model", weights, TEXTS)
    assert names_in(tmp_path) == []


def test_a_failure_before_anything_is_replaced_keeps_the_old_model(weights, tmp_path, monkeypatch):
    write_folder(tmp_path, weights, TEXTS)
    monkeypatch.setattr(folder_writing, "save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path, {"a": torch.zeros(1)}, TEXTS | {"config.json": "new"})
    assert names_in(tmp_path) == WHOLE
    assert (tmp_path / "config.json").read_text() == "{}"
    assert load_file(tmp_path / "model.safetensors").keys() == weights.keys()


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_crash_between_two_renames_loses_neither_model(number, weights, tmp_path, monkeypatch):
    """For who does not finish the writing there is no config; who does has all of the new model.

    Seen to fail when files were replaced where they are: after the first, there was no model.
    """
    write_folder(tmp_path, weights, TEXTS)
    replace, done = os.replace, []

    def crash_after_a_few(source, target):
        if len(done) == number:
            raise KeyboardInterrupt
        done.append(replace(source, target))

    monkeypatch.setattr(os, "replace", crash_after_a_few)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, {"a": torch.zeros(1)}, TEXTS | {"config.json": "new"})
    assert "config.json" not in names_in(tmp_path)
    monkeypatch.undo()
    finish_writing(tmp_path)
    assert names_in(tmp_path) == WHOLE
    assert (tmp_path / "config.json").read_text() == "new"
    assert load_file(tmp_path / "model.safetensors").keys() == {"a"}
    refuse_damage(tmp_path / "model.safetensors")


def test_a_crash_before_the_renames_keeps_the_old_model(weights, tmp_path, monkeypatch):
    write_folder(tmp_path, weights, TEXTS)
    monkeypatch.setattr(os, "rename", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path, {"a": torch.zeros(1)}, TEXTS | {"config.json": "new"})
    finish_writing(tmp_path)
    assert names_in(tmp_path) == WHOLE
    assert (tmp_path / "config.json").read_text() == "{}"
    refuse_damage(tmp_path / "config.json")
