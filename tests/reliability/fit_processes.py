"""Trainings of `jepa fit` in real processes, which a test kills, terminates and resumes.

Each rank writes one line a step: what came in, the loss, and what became of all weights. So two
trainings are compared step by step and bit by bit, on every rank, and not at their ends alone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from data_pipelines.shards import pack_videos
from data_pipelines.synthetic import write_moving_shapes

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS, END_SECONDS = 600, 120  # allowed until the first step; and from a signal to the end
RECORDER = """
import os
import zlib
from lightning.pytorch import Callback


def crc(module):
    values = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
    return f"{zlib.crc32(values):08x}"


class Recorder(Callback):
    '''One line a step: its number, loss, target encoder, all weights, keys and moments.'''

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.place = f"{os.environ['RECORD']}.{trainer.global_rank}"
        with open(f"{self.place}.pid", "w") as file:
            print(os.getpid(), file=file)
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        starts = batch.timestamps_seconds[:, 0].tolist()
        clips = [f"{key}@{start:.2f}" for key, start in zip(batch.keys, starts)]
        weights = crc(pl_module.target_encoder), crc(pl_module)
        with open(self.place, "a") as file:
            print(self.step, outputs["loss"].item().hex(), *weights, *clips, file=file, flush=True)
"""
TINY = """
model:
  init_args:
    encoder: {init_args: {image_size: 32, clip_length_frames: 4, dim: 24, depth: 1, num_heads: 2}}
    predictor: {init_args: {encoder_dim: 24, dim: 24, depth: 1, num_heads: 2}}
data:
  init_args: {clip_length_frames: 4, image_size: 32, batch_size: 4, clips_per_video: 2,
              steps_per_epoch: 5}
trainer: {accelerator: cpu, log_every_n_steps: 1, enable_model_summary: false}
checkpoint: {every_n_train_steps: 1}
"""


def write_what_is_trained_on(folder):
    """Seven packed videos, the config, and the callback that writes down what came."""
    write_moving_shapes(folder / "videos", num_videos=7, num_frames=12, size=32)
    pack_videos(folder / "videos", folder / "shards", samples_per_shard=3)
    (folder / "recorder.py").write_text(RECORDER)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


class Starter:
    """What starts ranks, for all trainings in a folder; see `warm_starts`."""

    def __init__(self, folder):
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.warm_starts", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, order):
        """Returns the answer to an order."""
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self):
        """Ends it; ranks go on."""
        self._server.kill()
        self._server.wait()


class Process:
    """One rank.

    Args:
        starter: that starts it.
        order: what to start.
    """

    def __init__(self, starter, **order):
        self._starter, self._code = starter, None
        self.pid = starter.ask({"start": order})

    def poll(self):
        """Returns the exit code, None as long as it runs."""
        if self._code is None:
            self._code = self._starter.ask({"poll": self.pid})
        return self._code

    def wait(self, timeout):
        """Returns the exit code; fails if it takes longer."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < deadline, f"process {self.pid} goes on and on"
            time.sleep(0.005)
        return self._code


class Training:
    """One training, in as many starts as it takes.

    Args:
        starter: in the folder of the shards and the config.
        name: of the run.
        num_steps: of the whole training.
        num_ranks: processes, started by us as Slurm does it.
    """

    def __init__(self, starter, name, *, num_steps, num_ranks=1):
        folder = starter.folder
        self.starter, self.folder, self.name = starter, folder, name
        self.num_steps, self.num_ranks = num_steps, num_ranks
        self.checkpoint = folder / "runs" / name / "checkpoints" / "last.ckpt"
        self.ranks, self._lines_before = [], 0

    def start(self, *options, num_workers=0):
        """Starts it, or goes on where its last checkpoint is."""
        arguments = ["fit", "--config", "pretrain/tiny.yaml", "--config", "tiny.yaml"]
        arguments += ["--data.shards", "shards", "--name", self.name]
        arguments += ["--trainer.callbacks+=recorder.Recorder"]
        arguments += ["--trainer.max_steps", str(self.num_steps)]
        arguments += ["--data.num_workers", str(num_workers), *options]
        if self.checkpoint.exists():
            arguments += ["--ckpt_path", "last"]
        environment = {"RECORD": str(self.folder / self.name), "PYTHONPATH": str(self.folder)}
        if self.num_ranks > 1:
            arguments += ["--trainer.strategy", "ddp", "--trainer.devices", str(self.num_ranks)]
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        self._lines_before = self.num_lines()
        self.ranks = [
            Process(
                self.starter,
                arguments=arguments,
                environment=environment | ({"LOCAL_RANK": str(rank)} if self.num_ranks > 1 else {}),
                log=str(self._log),
            )
            for rank in range(self.num_ranks)
        ]

    def finish(self, **options):
        """Lets it run to its end."""
        self.start(**options)
        assert self.codes(within=2 * START_SECONDS) == [0] * self.num_ranks, self.said()

    def run_on(self, num_steps, seconds=0.0):
        """Waits until rank 0 has done so many steps since the start, and so long after."""
        deadline = time.monotonic() + START_SECONDS
        while self.num_lines() < self._lines_before + num_steps and self.ranks[0].poll() is None:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.002)
        time.sleep(seconds)
        assert self.ranks[0].poll() is None, f"it ended by itself: {self.said()}"

    def send(self, number, *ranks):
        """Sends a signal to the processes of these ranks, which read data for them too."""
        for rank in ranks:
            os.killpg(self.ranks[rank].pid, number)

    def codes(self, *, within=END_SECONDS):
        """Returns the exit codes; fails if a rank has not ended after so many seconds."""
        deadline = time.monotonic() + within
        return [rank.wait(deadline - time.monotonic()) for rank in self.ranks]

    def close(self):
        """Leaves nothing behind, whatever a test found."""
        for rank in self.ranks:
            if rank.poll() is None:
                os.killpg(rank.pid, signal.SIGKILL)
                rank.wait(END_SECONDS)

    def num_lines(self, rank=0):
        """Returns how many steps a rank has done, repeated ones counted again."""
        path = self.folder / f"{self.name}.{rank}"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def said(self):
        """Returns all that was printed."""
        return self._log.read_text()

    def steps(self, rank=0):
        """Returns step -> line of a rank; a step that was repeated must have been the same."""
        came = {}
        for line in (self.folder / f"{self.name}.{rank}").read_text().splitlines():
            step, _, rest = line.partition(" ")
            assert came.setdefault(int(step), rest) == rest, f"another step {step}"
        return came

    def saved(self):
        """Returns the last checkpoint."""
        return torch.load(self.checkpoint, weights_only=True)

    @property
    def _log(self):
        return self.folder / f"{self.name}.log"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def assert_equal(expected, found):
    """Asserts that two trainings were the same: every step on every rank, and all that is saved."""
    for rank in range(expected.num_ranks):
        assert expected.steps(rank) == found.steps(rank)
        assert sorted(found.steps(rank)) == list(range(expected.num_steps))
    one, two = flat(expected.saved()), flat(found.saved())
    assert one.keys() == two.keys() and len(one) > 100
    assert [name for name in one if not is_same(one[name], two[name])] == []


NOT_OF_THE_STATE = (
    "callbacks.",  # paths, and when they were written
    "state_list.",  # names of the others
    "datamodule_hyper_parameters.num_workers",
)


def flat(content, prefix=""):
    """Returns every leaf of a checkpoint by its way; what is no part of the state left out."""
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list | tuple):
        pairs = enumerate(content)
    else:
        return {} if prefix.startswith(NOT_OF_THE_STATE) else {prefix.rstrip("."): content}
    leaves = {}
    for name, value in pairs:
        leaves |= flat(value, f"{prefix}{name}.")
    return leaves


def is_same(one, two):
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
