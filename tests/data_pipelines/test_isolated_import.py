"""A real child process that is stopped, killed and crashed while it reads real episodes."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from data_pipelines.importers.worlds import open_source
from data_pipelines.isolated_import import ImportProcess
from data_pipelines.manifest import SkippedVideo
from data_pipelines.video_writing import write_mp4

needs_posix = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")


@pytest.fixture
def source(tmp_path, index_frames):
    """A folder of stable-worldmodel: three episodes of four steps."""
    folder = tmp_path / "set"
    folder.mkdir()
    columns = {
        "ep_len": np.full(3, 4),
        "ep_offset": np.arange(3) * 4,
        "action": np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2),
        "proprio": np.arange(12, dtype=np.float32)[:, None],
    }
    for name, values in columns.items():
        np.savez(folder / f"{name}.npz", values)
    for episode in range(3):
        frames = index_frames(12)[4 * episode : 4 * episode + 4]
        write_mp4(folder / "pixels" / f"ep_{episode}.mp4", frames, frames_per_second=10)
    return folder


@pytest.fixture
def process(source):
    process = ImportProcess(open_source(source))
    yield process
    process.close()


def test_a_child_gives_the_numbers_that_this_process_reads(process):
    episode = process.importer.episode(1)
    sample, members = process.read(1)
    assert (sample.key, sample.source) == ("episode-000001", "episode-000001")
    assert sample.metadata.num_frames == 4
    assert sorted(members) == ["actions.npy", "json", "mp4", "states.npy"]
    assert members["states.npy"].endswith(episode.states.tobytes())
    assert members["actions.npy"].endswith(episode.actions.tobytes())


@needs_posix
def test_a_crash_costs_one_episode(process):
    def crash():
        os.kill(child.pid, signal.SIGSEGV)
        os.kill(child.pid, signal.SIGCONT)

    good = process.read(0)
    child = process._child
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(0.2, crash).start()  # while the next episode waits for its answer
    reason = "the process that read it crashed on it (signal 11)"
    assert process.read(1) == SkippedVideo("episode-000001", reason)
    assert process.read(0) == good


@needs_posix
def test_a_child_that_is_killed_from_outside_is_asked_again(process):
    good = process.read(1)
    child = process._child
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(0.2, child.kill).start()
    assert process.read(1) == good
    assert process._child is not child


@needs_posix
def test_an_episode_that_hangs_is_left_out(process):
    good = process.read(0)
    process.timeout_seconds = 0.3
    os.kill(process._child.pid, signal.SIGSTOP)
    assert process.read(1).reason == "reading it took more than 0.3 s"
    process.timeout_seconds = 60
    assert process.read(0) == good


def test_what_a_source_refuses_is_the_reason(process, source):
    (source / "pixels/ep_1.mp4").write_bytes(b"words")
    assert process.read(1).reason.startswith("not a video: begins with")
    (source / "pixels/ep_2.mp4").unlink()
    assert "no such image, nor a video of the episode" in process.read(2).reason
    assert not isinstance(process.read(0), SkippedVideo)


def test_no_child_is_left_behind(process):
    process.read(0)
    child = process._child
    process.close()
    assert child.exitcode is not None


def test_a_script_without_a_guard_is_told_so(source, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from data_pipelines.importers.worlds import open_source\n"
        "from data_pipelines.isolated_import import ImportProcess\n"
        f"ImportProcess(open_source({str(source)!r})).read(0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment
    )
    assert "must do so below: if __name__ == '__main__'" in run.stderr
