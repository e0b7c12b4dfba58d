import os
import subprocess
import sys

import pytest

from data_pipelines.folder_lock import FolderLock
from data_pipelines.tar_headers import ShardError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="keeps out nobody elsewhere")

HOLDER = """
import sys
from pathlib import Path
from data_pipelines.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), Path("shown"))
lock.take()
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "hidden")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def test_another_process_is_kept_out_until_the_first_is_gone_however_it_ended(holder, tmp_path):
    lock = FolderLock(tmp_path / "hidden", tmp_path / "out")
    with pytest.raises(ShardError, match=r"another process is writing to .*out; wait for it"):
        lock.take()
    holder.kill()
    holder.wait()
    lock.take()


def test_a_lock_that_is_given_back_can_be_taken_again(tmp_path):
    first, second = (FolderLock(tmp_path / "hidden", tmp_path) for _ in range(2))
    first.take()
    with pytest.raises(ShardError, match="another process"):
        second.take()
    first.release()
    first.release()  # twice does no harm
    second.take()
