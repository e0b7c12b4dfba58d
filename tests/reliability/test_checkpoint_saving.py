"""Saves that are killed, and saves on a full disk: the last good checkpoint is always there."""

import multiprocessing
import os
import random
import re
import resource
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from jepa.checkpoint_file import KEYS, KEYS_TO_RESUME, check_checkpoint, newest_good
from jepa.checkpoint_saving import AtomicCheckpointIO
from jepa.partial_files import PARTIAL
from jepa.run_folder import last_checkpoints

NEEDS_LINUX = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs Linux: /dev/shm")
pytestmark = NEEDS_LINUX


def save_until_killed(path, first_step, pipe):
    """Saves 8 MB again and again; says when a save begins, and of what step one has ended."""
    saving, step = AtomicCheckpointIO(), first_step
    whole = {key: {} for key in KEYS + KEYS_TO_RESUME}
    while True:
        step += 1
        weights = {"weight": torch.full((2_000_000,), float(step))}
        pipe.send(("begins", step))
        saving.save_checkpoint(whole | {"global_step": step, "state_dict": weights}, path)
        pipe.send(("ended", step))


def kill_within_a_save(path, first_step, rng):
    """Returns the last step of which a save had ended when the process was killed."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=save_until_killed, args=(path, first_step, theirs), daemon=True)
    process.start()
    for _ in range(rng.choice((1, 1, 3))):  # beginnings: some are killed in their first save
        ours.recv()
    time.sleep(rng.uniform(0, 0.06))
    process.kill()
    process.join()
    theirs.close()
    last = first_step
    while True:
        try:
            what, step = ours.recv()
        except EOFError:
            return last
        if what == "ended":
            last = step


@pytest.mark.parametrize(
    "number",
    [
        5,
        pytest.param(
            100,
            marks=pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it"),
        ),
    ],
)
def test_a_save_that_is_killed_leaves_a_good_checkpoint(tmp_path, monkeypatch, number):
    """The temporary folder is on another file system, as on a cluster.

    Lightning's own writing stages there and copies. Seen to fail with a file written in its place:
    "not a whole torch file" after the first kills.
    """
    assert os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    path, step, rng = tmp_path / "last.ckpt", 0, random.Random(number)
    num_left_over = 0
    for _ in range(number):
        least = kill_within_a_save(path, step, rng)
        num_left_over += len(list(tmp_path.glob(f"*{PARTIAL}*")))
        if least == 0 and not path.exists():
            continue  # killed in the very first save: nothing was promised yet
        assert check_checkpoint(path, resumes=True) >= least  # the newest, no older one
        found, step = newest_good(last_checkpoints(tmp_path), resumes=True)
        assert found == path
        saved = torch.load(found, weights_only=True)["state_dict"]["weight"]
        assert (saved == step).all()
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "another.ckpt")
    assert num_left_over > 0  # some were killed while they wrote
    assert not list(tmp_path.glob(f"*{PARTIAL}*"))


class Tiny(L.LightningModule):
    """Learns nothing, with 3 MB of weights."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(800, 1000)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(20, 800))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class FilledDisk(L.Callback):
    """Makes files larger than 1 MB impossible during some steps."""

    def __init__(self, first, last):
        self.first, self.last = first, last
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.first:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, self.before[1]))
        if trainer.global_step == self.last:
            self.empty()

    def empty(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def train(folder, disk, saving):
    regular = ModelCheckpoint(
        folder, every_n_train_steps=1, save_last=True, save_top_k=1, monitor="step", mode="max"
    )
    trainer = L.Trainer(
        max_steps=8, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[disk, regular], plugins=[saving],
    )  # fmt: skip
    try:
        trainer.fit(Tiny())
    finally:
        disk.empty()
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_training_goes_on_over_two_saves_without_a_disk(tmp_path, caplog):
    """Two files are written at each step; the steps are counted, not the files.

    Seen to fail where the first failure is the last: "File too large" ended the training.
    """
    saving = AtomicCheckpointIO(failures_allowed=2)
    trainer = train(tmp_path, FilledDisk(4, 5), saving)
    assert (trainer.global_step, saving.failures) == (8, 0)
    assert check_checkpoint(tmp_path / "last.ckpt", resumes=True) == 8
    errors = [r.getMessage() for r in caplog.records if "cannot write the check" in r.getMessage()]
    assert len(errors) == 4
    assert f"cannot write the checkpoint {tmp_path / 'last.ckpt'} (File too large)" in caplog.text
    assert re.search(r"3,204,0\d\d bytes needed, [\d,]+ free", caplog.text)


@pytest.mark.filterwarnings("ignore")
def test_training_stops_at_the_last_failure_that_is_allowed_and_what_was_good_is_there(tmp_path):
    """Seen to fail with Lightning's removal: epoch=0-step=3.ckpt, which is good, was deleted."""
    disk = FilledDisk(4, 100)
    with pytest.raises(OSError, match=r"3,204,0\d\d bytes needed, [\d,]+ free; .*\(3 of 3 in a"):
        train(tmp_path, disk, AtomicCheckpointIO(failures_allowed=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch=0-step=3.ckpt", "last.ckpt", "last.ckpt.previous",
    ]  # fmt: skip
    assert check_checkpoint(tmp_path / "last.ckpt", resumes=True) == 3
    assert check_checkpoint(tmp_path / "epoch=0-step=3.ckpt", resumes=True) == 3


@contextmanager
def small_disk(folder, size):
    """A file system of its own; only root may make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; RLIMIT_FSIZE is tested in any case")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine forbids mount; RLIMIT_FSIZE is tested in any case")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_good_one_and_says_what_is_missing(tmp_path):
    """Seen to fail with Lightning's own writing, whose error says no bytes."""
    path = tmp_path / "last.ckpt"
    whole = {key: {} for key in KEYS + KEYS_TO_RESUME}
    with small_disk(tmp_path, "30m"):
        good = whole | {"global_step": 1, "state_dict": {"weight": torch.zeros(5_000_000)}}
        AtomicCheckpointIO().save_checkpoint(good, path)
        large = whole | {"global_step": 2, "state_dict": {"weight": torch.zeros(9_000_000)}}
        with pytest.raises(OSError, match=r"last.ckpt \(No space left on device\): 36,000,000 byt"):
            AtomicCheckpointIO().save_checkpoint(large, path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]
        assert check_checkpoint(path, resumes=True) == 1
