"""Checkpoints that come with a clone: by name, whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest

from jepa.checkpoints.native import load_world_model
from jepa.checkpoints.shipped import (
    CHECKPOINTS,
    resolve_checkpoint,
    sha256_of,
    shipped_names,
    write_manifest,
)

MAX_BYTES = 16 << 20


@pytest.fixture
def root(tmp_path):
    """A folder with one checkpoint, `tiny`, and its manifest."""
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("may be changed")
    write_manifest(folder.parent)
    return folder.parent


def test_a_name_is_the_folder_in_the_clone(root):
    assert shipped_names(root) == ("tiny",)
    assert resolve_checkpoint("tiny", root=root) == root / "tiny"


def test_a_path_that_exists_goes_before_a_name(root, tmp_path, monkeypatch):
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert resolve_checkpoint("tiny", root=root) == Path("tiny")
    assert resolve_checkpoint("./runs/tiny", root=root) == Path("runs/tiny")


def test_what_is_neither_is_left_as_it_is(root, tmp_path):
    assert resolve_checkpoint("other", root=root) == Path("other")
    assert resolve_checkpoint("other", root=tmp_path / "nowhere") == Path("other")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_another_byte_or_a_missing_file_is_told(root, file):
    path = root / "tiny" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"{file} is not the file that .*manifest.json names"):
        resolve_checkpoint("tiny", root=root)
    path.unlink()
    with pytest.raises(ValueError, match="missing, cut short or changed"):
        resolve_checkpoint("tiny", root=root)


def test_a_shipped_checkpoint_is_checked_by_its_path_too(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert resolve_checkpoint("checkpoints/tiny", root=root) == Path("checkpoints/tiny")
    (root / "tiny" / "config.json").write_text("{ }")
    for name in ("tiny", "checkpoints/tiny", root / "tiny", "checkpoints/../checkpoints/tiny"):
        with pytest.raises(ValueError, match=r"config\.json is not the file"):
            resolve_checkpoint(name, root=root)


def test_the_readme_may_change(root):
    (root / "tiny" / "README.md").write_text("other words")
    assert resolve_checkpoint("tiny", root=root) == root / "tiny"


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_checkpoint_is_whole_small_and_described(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = CHECKPOINTS / name
    assert load_world_model(name).actions is not None
    assert (folder / "model.safetensors").stat().st_size <= MAX_BYTES
    text = (folder / "README.md").read_text()
    assert "jepa fit" in text and "jepa plan evaluate" in text
    data = json.loads((folder / "data.json").read_text())
    assert {"statistics", "specification", "command"} <= data.keys()
    listed = json.loads((CHECKPOINTS / "manifest.json").read_text())[name]
    assert listed["model.safetensors"] == sha256_of(folder / "model.safetensors")


@pytest.mark.parametrize("name", shipped_names())
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_copy_of_a_shipped_checkpoint_is_checked_too(name, file, tmp_path):
    """Seen to fail without sha256.json in the folder: a copy with another weight planned."""
    copy = shutil.copytree(CHECKPOINTS / name, tmp_path / "copy")
    content = bytearray((copy / file).read_bytes())
    content[-len(content) // 3] ^= 4
    (copy / file).write_bytes(content)
    with pytest.raises(ValueError, match=r"is not the file that sha256\.json beside it names"):
        load_world_model(copy)


def test_two_rooms_is_shipped():
    assert "two_rooms" in shipped_names()
