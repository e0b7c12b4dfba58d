"""Packing on a Ray cluster: a task writes a shard. The only file that imports ray.

Videos and output must lie on storage that all nodes see under the same path (NFS, Lustre, a mounted
bucket); videos may also be read from a URL. The nodes have this package installed.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipelines.frames import one_line
from data_pipelines.pack_plan import encoder_of
from data_pipelines.shard_jobs import ShardJob, open_packer, write_job
from data_pipelines.tar_headers import ShardError
from data_pipelines.urls import is_url

logger = logging.getLogger(__name__)

STORAGE_HELP = "videos and OUT must lie on storage that all nodes see under the same path"
RECORD_TIMEOUT_SECONDS = 60.0  # NFS shows new files late
OBJECT_STORE_BYTES = 200 << 20  # of a Ray started here; tasks send no data through it


@dataclass(frozen=True)
class RayEngine:
    """Ray tasks, one a shard, of which only some wait in the cluster at a time.

    A Ray that this process is connected to already is used as it is.

    Attributes:
        address: of a cluster, or "auto" for the one of this machine; None takes RAY_ADDRESS, and
            if there is none starts Ray on this machine.
        max_tasks: tasks in the cluster at a time; None: twice as many as it has CPUs. Of a Ray
            that is started here it is the number of CPUs too.
        num_retries: how often a shard is tried again after its worker died.
    """

    address: str | None = None
    max_tasks: int | None = None
    num_retries: int = 1

    def __post_init__(self) -> None:
        if self.max_tasks is not None and self.max_tasks < 1:
            raise ValueError(f"max_tasks={self.max_tasks} must be at least 1")
        _ray()  # not installed: say so before the work

    def run(self, jobs: Sequence[ShardJob]) -> None:
        """Writes the shard and the record of every job; the first failure ends the others.

        Raises:
            ConnectionError: if there is no cluster at the address.
            ShardError: if a shard's workers died again and again, or a node does not see the files.
        """
        if not jobs:
            return
        with _connected(self.address, self.max_tasks) as ray:
            max_tasks = self.max_tasks or 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
            task = ray.remote(max_retries=0, num_cpus=1)(_write_on_node)
            pending: dict[Any, tuple[ShardJob, int]] = {}  # of each task: its job, retries left
            waiting = [(_with_absolute_paths(job), self.num_retries) for job in reversed(jobs)]
            try:
                while waiting or pending:
                    while waiting and len(pending) < max_tasks:
                        job, retries = waiting.pop()
                        pending[task.remote(job)] = job, retries
                    done, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                    for reference in done:
                        if again := _finish(ray, reference, *pending.pop(reference)):
                            waiting.append(again)
            except BaseException:  # also Ctrl-C: the cluster must not go on; it is raised again
                for reference in pending:
                    ray.cancel(reference, force=True)
                raise


def _finish(
    ray: Any,  # noqa: ANN401
    reference: object,
    job: ShardJob,
    retries: int,
) -> tuple[ShardJob, int] | None:
    """Returns the job, to be tried again, if its worker died; None if its shard is there."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if error.cause is None:
            raise ShardError(f"{job.shard.name}: {one_line(str(error))}") from None
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}: {one_line(str(error))}"
        if retries == 0:
            raise ShardError(
                f"{job.shard.name} could not be packed, its worker died again ({reason}); its "
                f"videos begin with {job.videos[0].source.path}; pack again to go on"
            ) from None
        logger.warning("%s is tried again, its worker died (%s)", job.shard.name, reason)
        return job, retries - 1
    _wait_for_record(job)
    return None


def _write_on_node(job: ShardJob) -> None:
    """Runs in a worker process of Ray."""
    refuse_unfit_node(job)
    packer = open_packer(job)
    try:
        write_job(job, packer)
    finally:
        packer.close()


def refuse_unfit_node(job: ShardJob) -> None:
    """Raises if this machine does not see a job's files, or would encode other bytes.

    Raises:
        ShardError: naming the machine and what it lacks.
    """
    folders = [job.folder] if is_url(job.root) else [job.root, job.folder]
    for folder in folders:
        if not Path(folder).is_dir():
            raise ShardError(f"node {platform.node()} does not see {folder}: {STORAGE_HELP}")
    here = encoder_of(job.settings)
    if here != job.encoder:
        raise ShardError(
            f"node {platform.node()} has {here}, the pack was planned with {job.encoder}, which "
            "may give other bytes; install the same version everywhere"
        )


def _wait_for_record(job: ShardJob, timeout_seconds: float = RECORD_TIMEOUT_SECONDS) -> None:
    """Waits until a task's record is seen here.

    Raises:
        ShardError: if it is not, so the task wrote to a disk of its own.
    """
    deadline = time.monotonic() + timeout_seconds
    while not job.record.is_file():
        if time.monotonic() > deadline:
            raise ShardError(
                f"a node wrote {job.record}, but it is not seen on {platform.node()}: "
                f"{STORAGE_HELP}"
            )
        os.listdir(job.folder)  # makes NFS look again
        time.sleep(0.2)


def _with_absolute_paths(job: ShardJob) -> ShardJob:
    root = job.root if is_url(job.root) else os.path.abspath(job.root)
    return replace(job, root=root, folder=os.path.abspath(job.folder))


@contextmanager
def _connected(address: str | None, num_cpus: int | None) -> Iterator[Any]:
    """Yields ray, connected; what was connected or started here is left at the end."""
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address is None:
            _start_here(ray, num_cpus)
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        place = "on this machine" if address is None else f"at {address}"
        raise ConnectionError(f"no Ray {place}: {one_line(str(error))}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _start_here(ray: Any, num_cpus: int | None) -> None:  # noqa: ANN401
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    ray.init(
        "local",
        num_cpus=num_cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _ray() -> Any:  # noqa: ANN401
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            "--engine ray needs ray: pip install 'jepa-planning[ray]', here and on the nodes"
        ) from None
    return ray
