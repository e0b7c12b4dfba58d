import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_ends_a_recording_in_one_line_and_leaves_no_half_set(tmp_path):
    out = tmp_path / "shards"
    process = subprocess.Popen(
        [sys.executable, "-m", "jepa", "plan", "record", str(out), "--episodes", "1000000"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not out.exists():  # the recording begins
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the children, too
    said = process.communicate(timeout=60)
    assert (process.returncode, *said) == (130, "", "interrupted\n")
    assert list(out.iterdir()) == []
