import os
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from jepa.checkpoint_file import KEYS, KEYS_TO_RESUME, check_checkpoint, newest_good, previous_of
from jepa.checkpoint_saving import AtomicCheckpointIO, num_bytes_of
from jepa.partial_files import sweep

WHOLE = {key: {} for key in KEYS + KEYS_TO_RESUME}


def checkpoint(step):
    return WHOLE | {"global_step": step, "state_dict": {"weight": torch.full((500,), step)}}


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "last.ckpt"


def test_the_one_before_stays_and_older_ones_do_not(path):
    saving = AtomicCheckpointIO()
    for step in (1, 2, 3):
        saving.save_checkpoint(checkpoint(step), path)
    assert names(path.parent) == ["last.ckpt", "last.ckpt.previous"]
    assert check_checkpoint(path, resumes=True) == 3
    assert check_checkpoint(previous_of(path), resumes=True) == 2


def test_a_damaged_file_does_not_become_the_one_before(path):
    """Seen to fail when whatever is there is kept: the last good one was lost."""
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(checkpoint(step), path)
    damage(path)
    AtomicCheckpointIO().save_checkpoint(checkpoint(3), path)
    assert check_checkpoint(previous_of(path), resumes=True) == 1


def test_a_file_that_reads_back_otherwise_replaces_nothing(path, monkeypatch):
    """Seen to fail without reading back: last.ckpt was the damaged one."""
    AtomicCheckpointIO().save_checkpoint(checkpoint(1), path)

    def damaging(file):
        with suppress(OSError):  # of a folder
            os.pwrite(file, b"?", 700)

    monkeypatch.setattr(os, "fsync", damaging)
    with pytest.raises(OSError, match="what is on the disk is not what was written"):
        AtomicCheckpointIO().save_checkpoint(checkpoint(2), path)
    assert check_checkpoint(path, resumes=True) == 1
    assert names(path.parent) == ["last.ckpt"]


def test_where_no_second_name_can_be_given_the_file_is_moved(path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2, 3):
        AtomicCheckpointIO().save_checkpoint(checkpoint(step), path)
    assert check_checkpoint(path, resumes=True) == 3
    assert check_checkpoint(previous_of(path), resumes=True) == 2


def test_a_save_that_died_between_its_two_renames_is_of_no_consequence(path):
    saving = AtomicCheckpointIO()
    saving.save_checkpoint(checkpoint(1), path)
    os.link(path, previous_of(path))
    saving.save_checkpoint(checkpoint(2), path)
    assert names(path.parent) == ["last.ckpt", "last.ckpt.previous"]
    assert check_checkpoint(previous_of(path), resumes=True) == 1


def test_what_is_removed_is_removed_with_the_one_before(path):
    saving = AtomicCheckpointIO()
    for step in (1, 2):
        saving.save_checkpoint(checkpoint(step), path)
    saving.remove_checkpoint(path)
    assert names(path.parent) == []


@pytest.mark.skipif(os.name != "posix", reason="asks POSIX whether a process lives")
def test_what_a_dead_process_was_writing_is_swept_and_that_of_a_living_one_is_not(path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    saving = AtomicCheckpointIO()
    saving.save_checkpoint(checkpoint(1), path)
    host = os.uname().nodename
    ours = f"last.ckpt.partial-{host}-{os.getpid()}"
    for name in (f"last.ckpt.partial-{process.pid}", f"a.ckpt.partial-{host}-{process.pid}", ours):
        path.with_name(name).write_bytes(b"PK")
    path.with_name("last.ckpt.partial-elsewhere-1").write_bytes(b"PK")
    path.with_name("last.ckpt.partial-long_ago-1").write_bytes(b"PK")
    os.utime(path.with_name("last.ckpt.partial-long_ago-1"), (0, 0))
    sweep(path.parent)
    assert names(path.parent) == ["last.ckpt", "last.ckpt.partial-elsewhere-1", ours]


def test_bytes_of_shared_memory_count_once():
    weight = torch.zeros(100)
    assert num_bytes_of({"a": weight, "b": [weight[:50], torch.zeros(3)], "c": 1}) == 412


def test_the_newest_good_one_is_taken_and_the_damaged_ones_are_named(path, caplog):
    saving = AtomicCheckpointIO()
    for step in (1, 2):
        saving.save_checkpoint(checkpoint(step), path)
    damage(path)
    found = newest_good([path, previous_of(path)], resumes=True)
    assert found == (previous_of(path), 1)
    assert f"{path} is damaged" in caplog.text
    assert "last.ckpt.previous, of step 1" in caplog.text


def test_if_no_good_one_is_left_all_are_named(path):
    saving = AtomicCheckpointIO()
    for step in (1, 2):
        saving.save_checkpoint(checkpoint(step), path)
    damage(path)
    damage(previous_of(path))
    with pytest.raises(ValueError, match=r"no good .* is left: .*last.ckpt is .*previous is damag"):
        newest_good([path, previous_of(path)], resumes=True)
