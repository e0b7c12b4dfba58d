import os
import signal
import threading

import pytest

from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo, read_row


@pytest.fixture
def probe(video_folder):
    with ProbeProcess(video_folder, decoder="decord", verify_frames="ends") as process:
        yield process


def test_the_child_reads_what_this_process_reads(probe, video_folder, tmp_path):
    path = "odd/video01.mp4"
    here = read_row(video_folder, path, decoder="decord", verify_frames="ends")
    assert probe.read_row(path) == here
    assert probe.read_row("odd/none.mp4") == SkippedVideo(
        "odd/none.mp4", "No such file or directory"
    )


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_decoder_that_crashes_costs_one_video(probe):
    def crash():
        os.kill(child.pid, signal.SIGSEGV)
        os.kill(child.pid, signal.SIGCONT)

    good = probe.read_row("odd/video01.mp4")
    child = probe._child
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(0.2, crash).start()  # while the next video waits for its answer
    assert probe.read_row("odd/video03.mp4").reason == "decord crashed on it (signal 11)"
    assert probe.read_row("odd/video01.mp4") == good


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_child_that_is_killed_from_outside_is_asked_again(probe):
    good = probe.read_row("odd/video01.mp4")
    child = probe._child
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(0.2, child.kill).start()  # while the next video waits for its answer
    assert probe.read_row("odd/video01.mp4") == good
    assert probe._child is not child


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_decoder_that_hangs_costs_one_video(probe):
    good = probe.read_row("odd/video01.mp4")
    probe.timeout_seconds = 0.3
    os.kill(probe._child.pid, signal.SIGSTOP)
    assert probe.read_row("odd/video03.mp4").reason == "decoding took more than 0.3 s"
    probe.timeout_seconds = 60
    assert probe.read_row("odd/video01.mp4") == good


def test_no_child_is_left_behind(video_folder):
    with ProbeProcess(video_folder, decoder="pyav", verify_frames="all") as process:
        process.read_row("odd/video01.mp4")
        child = process._child
    assert child.returncode is not None


def test_an_unknown_decoder_is_said_once_and_early(video_folder):
    with pytest.raises(ValueError, match="no decoder named 'vlc'"):
        ProbeProcess(video_folder, decoder="vlc", verify_frames="ends")
