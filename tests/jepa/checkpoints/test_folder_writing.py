"""A folder of a model is whole or refused, whatever happens while it is written."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from jepa.checkpoints import folder_writing
from jepa.checkpoints.folder_writing import write_folder

TEXTS = {"config.json": "{}", "README.md": "a card"}


@pytest.fixture
def weights():
    return {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_files_are_written_and_no_other(weights, tmp_path):
    write_folder(tmp_path / "new" / "model", weights, TEXTS)
    folder = tmp_path / "new" / "model"
    assert names_in(folder) == ["README.md", "config.json", "model.safetensors"]
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
    assert names_in(tmp_path) == ["README.md", "config.json", "model.safetensors"]
    assert (tmp_path / "config.json").read_text() == "{}"
    assert load_file(tmp_path / "model.safetensors").keys() == weights.keys()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_new_weights_are_never_beside_an_old_config(number, weights, tmp_path, monkeypatch):
    """A crash after any of the renames leaves a folder without a config."""
    write_folder(tmp_path, weights, TEXTS)
    replace, done = os.replace, []

    def crash_after_a_few(source, target):
        if len(done) == number:
            raise KeyboardInterrupt
        done.append(replace(source, target))

    monkeypatch.setattr(os, "replace", crash_after_a_few)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, weights, TEXTS | {"config.json": "new"})
    assert names_in(tmp_path) == ["README.md", "model.safetensors"]
