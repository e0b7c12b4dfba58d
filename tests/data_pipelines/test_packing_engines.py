import subprocess
import sys
import threading
import time

import pytest

from data_pipelines import packing_engines
from data_pipelines.pack_plan import ImagePackSettings
from data_pipelines.packing_engines import LocalEngine
from data_pipelines.shard_jobs import ShardJob


def jobs(count, tmp_path):
    return [
        ShardJob(number, (), ImagePackSettings(), str(tmp_path), str(tmp_path))
        for number in range(count)
    ]


def test_every_job_gets_its_record_whatever_the_number_of_workers(tmp_path):
    for num_workers in (1, 3, 20):
        folder = tmp_path / str(num_workers)
        folder.mkdir()
        LocalEngine(num_workers).run(jobs(7, folder))
        names = sorted(path.name for path in folder.iterdir())
        assert names == [f"shard-{number:06d}.tar.json" for number in range(7)]


def test_no_job_is_no_work(tmp_path):
    LocalEngine(2).run([])


def test_the_first_failure_ends_the_other_workers_too(tmp_path, monkeypatch):
    written, both_work = [], threading.Barrier(2)

    def write(job, packer):
        if job.number < 2:
            both_work.wait(timeout=10)
        if job.number == 0:
            raise OSError(28, "No space left on device")
        while not packer.is_stopped:
            time.sleep(0.001)
        written.append(job.number)

    monkeypatch.setattr(packing_engines, "write_job", write)
    with pytest.raises(OSError, match="No space left"):
        LocalEngine(2).run(jobs(50, tmp_path))
    assert written == [1]


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="num_workers=0 must be at least 1"):
        LocalEngine(0)


@pytest.mark.parametrize("module", ["packing_engines", "ray_engine", "packing_verbs"])
def test_packing_does_not_load_torch(module):
    """It is a second of each worker, and of each run of the command."""
    program = f"import sys, data_pipelines.{module}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
