import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jepa.run_lock import RunLock

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from pathlib import Path
from jepa.run_lock import RunLock

lock = RunLock(Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
sys.stdin.readline()
lock.release()
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="a lock needs POSIX")


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_host_and_process_of_the_first(tmp_path, holder):
    """Seen to fail without lockf: both runs had the folder."""
    who = rf"\(host .*, process {holder.pid}, since \d{{4}}-.*\): wait for it, stop it"
    for _ in range(20):
        with pytest.raises(OSError, match=who):
            RunLock(tmp_path).take()


def test_the_lock_of_a_run_that_ended_leaves_nothing(tmp_path, holder, caplog):
    holder.communicate("end\n")
    assert not (tmp_path / ".lock").exists()
    RunLock(tmp_path).take()
    assert not caplog.records


def test_the_lock_of_a_run_that_was_killed_is_taken_over_and_said(tmp_path, holder, caplog):
    holder.kill()
    holder.wait()
    lock = RunLock(tmp_path)
    with caplog.at_level(logging.WARNING):
        lock.take()
    assert f"process {holder.pid}, since" in caplog.text
    assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
    lock.release()


def test_words_that_were_cut_short_do_not_keep_a_run_out(tmp_path):
    (tmp_path / ".lock").write_text('{"host": "a", "proc')
    RunLock(tmp_path).take()
