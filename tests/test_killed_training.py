"""Training that is killed without warning, and resumed, is training that was not killed.

Real processes of `jepa fit`, ended by SIGKILL; `--ckpt_path last` goes on. What came in each step,
and all that the last checkpoint holds of weights and optimizer, must be equal bit for bit.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data_pipelines.shards import pack_videos
from data_pipelines.synthetic import write_moving_shapes

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS = {2: 40, 20: 400}  # number of kills -> steps, more than can be done before the last
RECORDER = """
import os
from lightning.pytorch import Callback


class KeyRecorder(Callback):
    '''Writes one line a step: its number, and the keys and moments of its clips.'''

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        starts = batch.timestamps_seconds[:, 0].tolist()
        clips = [f"{key}@{start:.2f}" for key, start in zip(batch.keys, starts)]
        with open(os.environ["KEYS_OF_STEPS"], "a") as file:
            print(trainer.global_step, *clips, file=file, flush=True)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven packed videos, the config, and the callback that writes down what came."""
    folder = tmp_path_factory.mktemp("killed")
    write_moving_shapes(folder / "videos", num_videos=7, num_frames=12, size=32)
    pack_videos(folder / "videos", folder / "shards", samples_per_shard=3)
    (folder / "key_recorder.py").write_text(RECORDER)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


class Training:
    """One training, in as many processes as it takes.

    Args:
        folder: of the shards and the config.
        name: of the run.
        num_steps: of the whole training.
    """

    def __init__(self, folder, name, num_steps):
        self.folder, self.name, self.num_steps = folder, name, num_steps
        self.keys = folder / f"{name}.keys"
        self.checkpoint = folder / "runs" / name / "checkpoints" / "last.ckpt"

    def start(self, num_workers=0):
        command = [sys.executable, "-m", "jepa", "fit", "--config", "pretrain/tiny.yaml"]
        command += ["--config", "tiny.yaml", "--data.shards", "shards", "--name", self.name]
        command += ["--trainer.callbacks+=key_recorder.KeyRecorder"]
        command += ["--trainer.max_steps", str(self.num_steps)]
        command += ["--data.num_workers", str(num_workers)]
        if self.checkpoint.exists():
            command += ["--ckpt_path", "last"]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "OMP_NUM_THREADS": "1",
            "KEYS_OF_STEPS": str(self.keys),
        }
        log = (self.folder / f"{self.name}.log").open("a")
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def num_lines(self):
        return len(self.keys.read_text().splitlines()) if self.keys.exists() else 0

    def said(self):
        return (self.folder / f"{self.name}.log").read_text()

    def finish(self):
        assert self.start().wait(timeout=300) == 0, self.said()

    def kill_after(self, num_steps, seconds, num_workers):
        """Kills a process some time after so many steps."""
        process, first = self.start(num_workers), self.num_lines()
        deadline = time.monotonic() + 120
        while self.num_lines() < first + num_steps and process.poll() is None:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.002)
        time.sleep(seconds)
        assert process.poll() is None, f"it ended before it was killed: {self.said()}"
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def steps(self):
        """Returns step -> what came in it; in a step that was repeated, the same must come."""
        came = {}
        for line in self.keys.read_text().splitlines():
            step, _, clips = line.partition(" ")
            assert came.setdefault(int(step), clips) == clips, f"another step {step}"
        return came

    def state(self):
        """Returns all that the last checkpoint holds of weights and optimizer."""
        saved = torch.load(self.checkpoint, weights_only=True)
        assert saved["global_step"] == self.num_steps
        moments = saved["optimizer_states"][0]["state"]
        flat = {f"{i}.{name}": value for i, m in moments.items() for name, value in m.items()}
        return {**saved["state_dict"], **flat}


def random_kills(training, *, number, seed):
    """Kills at random moments: while a process starts, in a step, while a checkpoint is written."""
    rng = random.Random(seed)
    for num_killed in range(number):
        is_early = rng.random() < 0.15
        num_steps = 0 if is_early else rng.randint(1, 4)
        seconds = rng.uniform(0, 3) if is_early else rng.uniform(0, 0.1)
        training.kill_after(num_steps, seconds, num_workers=num_killed % 2)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    "number",
    [
        2,
        pytest.param(
            20,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it"),
            ],
        ),
    ],
)
def test_a_training_killed_at_random_moments_ends_as_one_that_was_not(folder, number):
    whole = Training(folder, f"whole{number}", NUM_STEPS[number])
    whole.finish()
    cut = Training(folder, f"cut{number}", NUM_STEPS[number])
    random_kills(cut, number=number, seed=number)
    cut.finish()
    assert cut.num_lines() >= whole.num_lines() == NUM_STEPS[number]  # some were done again
    assert whole.steps() == cut.steps() and len(whole.steps()) == NUM_STEPS[number]
    expected, came = whole.state(), cut.state()
    assert expected.keys() == came.keys() and len(expected) > 20
    assert [name for name in expected if not torch.equal(expected[name], came[name])] == []
