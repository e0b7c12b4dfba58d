import os
import signal
import subprocess
import sys

import pytest

from jepa.lost_rank import LostRankError, RankWatch, mark_launcher, write_line

BROKEN = RuntimeError("gloo: Connection closed by peer")


@pytest.fixture
def watch():
    """A rank 0 with a rank 1 that sleeps."""
    watch = RankWatch()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watch._children, watch._is_on = (process,), True
    yield watch
    process.kill()
    process.wait()


def test_a_rank_that_was_killed_is_named_with_its_signal_and_the_way_out(watch):
    watch._children[0].kill()
    words = r"rank 1 was ended by SIGKILL \(out of memory\?\); go on from last.ckpt"
    with pytest.raises(LostRankError, match=words):
        watch.explain(BROKEN, is_told=False, way_out="go on from last.ckpt")


def test_a_rank_that_is_alive_is_not_blamed_and_other_errors_are_not_explained(watch, monkeypatch):
    monkeypatch.setattr("jepa.lost_rank.SECONDS_TO_SEE_IT", 0.05)
    watch.explain(BROKEN, is_told=False)
    watch._children[0].kill()
    watch.explain(ValueError("a config"), is_told=False)


def test_rank_0_that_says_what_went_wrong_tells_the_others_so(watch):
    watch.on_exception(None, None, ValueError("a config"))
    assert watch._children[0].wait(timeout=10) == -signal.SIGTERM  # where nothing handles it


def test_a_launcher_that_is_gone_is_told_by_the_first_of_the_others_unless_it_did(
    capfd, monkeypatch
):
    watch = RankWatch()
    watch._launcher_pid, watch._is_on = os.getpid(), True  # not the parent: it has another one
    monkeypatch.setenv("LOCAL_RANK", "1")
    watch.explain(BROKEN, is_told=True)
    assert capfd.readouterr().err == ""
    watch.explain(BROKEN, is_told=False)
    assert capfd.readouterr().err == (
        "error: [rank 1] rank 0 ended without a word, so it was killed\n"
    )
    monkeypatch.setenv("LOCAL_RANK", "2")
    write_line("rank 0 ended")
    assert capfd.readouterr().err == ""


def test_only_a_process_that_lightning_would_start_ranks_from_is_their_launcher(monkeypatch):
    monkeypatch.setenv("JEPA_LAUNCHER_PID", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    mark_launcher()
    assert os.environ["JEPA_LAUNCHER_PID"] == "1"
    monkeypatch.delenv("LOCAL_RANK")
    mark_launcher()
    assert os.environ["JEPA_LAUNCHER_PID"] == str(os.getpid())
