"""Reading processes that are killed, crash, raise or hang, in the middle of an epoch.

What is promised: the run ends within the time-out, with one error that names what happened and
what to do; and none that hangs keeps it from ending.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from data_pipelines import streams
from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import pack_trajectories
from data_pipelines.trajectories import Episode, TrajectorySpecification
from tests.reliability.corrupt_shards import tar_of
from tests.reliability.corrupt_videos import whole_videos

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
SILENCE_SECONDS = 3.0  # instead of 120: silent for so long hangs
SECONDS_TO_SAY_IT = 25  # two silences and the ends of processes, on a machine with other work


def pytorchs_handler(*_):
    torch._C._error_if_any_worker_fails()


def raise_an_error():
    raise RuntimeError("a bug of ours")


def hang():
    is_hanging.set()
    time.sleep(1000)


is_hanging = multiprocessing.Event()
FAULTS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: ctypes.string_at(0),
    "error": raise_an_error,
    "hang": hang,
}
SAID = {
    "killed": (ChildProcessError, r"a reading process was killed \(SIGKILL\), most often because"),
    "crash": (ChildProcessError, r"a reading process crashed \(SIGSEGV\), most often in a decoder"),
    "error": (RuntimeError, "RuntimeError: a bug of ours"),
    "hang": (TimeoutError, "no reading process showed a sign of life for 3 s"),
}


class FailingReader(ShardReader):
    """Meets the fault at one sample, if a reading process asks for it."""

    def __init__(self, fault):
        super().__init__()
        self.fault, self.key = fault, "s3"

    def read(self, sample, extension):
        if sample.key == self.key and get_worker_info() is not None:
            FAULTS[self.fault]()
        return super().read(sample, extension)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    members = [(f"s{number}.mp4", video) for number, video in enumerate(whole_videos(8))]
    (folder / "shard-000000.tar").write_bytes(tar_of(members))
    return folder


def clips(folder, **options):
    settings = {"image_size": 16, "isolate_decoding": False, "decoder": "pyav"}
    return ClipDataModule(str(folder), 2, batch_size=2, **settings, **options)


def trajectories(folder, **options):
    specification = TrajectorySpecification(("x",), ("m",), ("v",), ("m/s",), (-1.0,), (1.0,), 10.0)
    frames, states = np.zeros((8, 16, 16, 3), np.uint8), np.zeros((8, 1), np.float32)
    episodes = (
        Episode(frames, states, states[1:], key=f"s{number}", frames_per_second=10.0, group="")
        for number in range(8)
    )
    pack_trajectories(episodes, folder / "trajectories", specification=specification)
    place = str(folder / "trajectories")
    return TrajectoryDataModule(place, 2, image_size=16, batch_size=2, **options)


def failing_loader(data, fault):
    loader = data.train_dataloader()
    loader.dataset.reader = FailingReader(fault)
    return loader


@pytest.fixture
def silence(monkeypatch):
    monkeypatch.setattr(streams, "SILENCE_SECONDS", SILENCE_SECONDS)


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(
    "num_workers", [1, pytest.param(2, marks=LONG), pytest.param(3, marks=LONG)]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_reading_process_that_fails_is_an_error_with_a_name_in_time(
    clip_folder, fault, num_workers
):
    """Seen to fail without `refuse_dead`: "worker (pid(s) 25911) exited unexpectedly", no more."""
    kind, said = SAID[fault]
    loader = failing_loader(clips(clip_folder, num_workers=num_workers), fault)
    begin = time.monotonic()
    with pytest.raises(kind, match=said) as caught:
        list(loader)
    assert time.monotonic() - begin < SECONDS_TO_SAY_IT
    assert fault == "error" or "\n" not in str(caught.value)


@LONG
@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("fault", FAULTS)
def test_trajectories_and_their_reading_processes_fail_alike(tmp_path, fault):
    kind, said = SAID[fault]
    with pytest.raises(kind, match=said):
        list(failing_loader(trajectories(tmp_path, num_workers=2), fault))


@pytest.mark.parametrize("hears_of_it", [True, False], ids=["at once", "at the next batch"])
def test_one_that_is_killed_while_the_model_computes_is_named(clip_folder, hears_of_it):
    """At once by PyTorch's handler of SIGCHLD, which Lightning puts back after a process's first
    run as it was before; by ours at the next batch then: seen to take 120 s when PyTorch's timeout
    was how long a reading process may be silent."""
    batches = iter(clips(clip_folder, num_workers=1).train_dataloader())
    next(batches)
    loader = batches.gi_frame.f_locals["self"]
    handler = signal.signal(signal.SIGCHLD, pytorchs_handler if hears_of_it else signal.SIG_DFL)
    kind, said = (
        (RuntimeError, r"DataLoader worker \(pid \d+\) is killed by signal")
        if hears_of_it
        else (ChildProcessError, r"a reading process was killed \(SIGKILL\)")
    )
    try:
        with pytest.raises(kind, match=said):
            os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)
            time.sleep(10 if hears_of_it else 0)
            begin = time.monotonic()
            list(batches)
        assert hears_of_it or time.monotonic() - begin < SECONDS_TO_SAY_IT
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_one_that_hangs_does_not_keep_a_run_from_ending(clip_folder, monkeypatch):
    """Seen to fail with PyTorch's SIGTERM, which they ignore: it was alive, and so was the run."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.3)
    is_hanging.clear()
    loader = failing_loader(clips(clip_folder, num_workers=1), "hang")
    batches = iter(loader)
    next(batches)
    assert is_hanging.wait(60)  # at the next one, and another error ends the run
    (worker,) = loader._iterator._workers
    begin = time.monotonic()
    del batches, loader
    gc.collect()
    worker.join(20)
    assert worker.exitcode == -signal.SIGKILL
    assert time.monotonic() - begin < 20


def test_after_an_error_the_others_end_by_themselves(clip_folder):
    """Seen to fail with queues in the cycle of the error: 13 s for two, which had to be killed."""
    loader = failing_loader(clips(clip_folder, num_workers=2), "error")
    with pytest.raises(RuntimeError, match="a bug of ours") as caught:
        list(loader)
    workers = loader._iterator._workers
    del loader, caught
    gc.collect()
    assert [worker.exitcode for worker in workers] == [0, 0]
