"""Who runs the jobs of a pack: threads of this process, or another engine with the same verb."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from data_pipelines.shard_jobs import Packer, PackingStopped, ShardJob, open_packer, write_job


class PackingEngine(Protocol):
    """Runs jobs that do not depend on each other."""

    def run(self, jobs: Sequence[ShardJob]) -> None:
        """Writes the shard and the record of every job; the first failure ends the others."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Threads of this process, each with a child process that decodes.

    Attributes:
        num_workers: how many.
        opener: makes what a thread packs with, from its first job.
    """

    num_workers: int = 1
    opener: Callable[[ShardJob], Packer] = open_packer

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ValueError(f"num_workers={self.num_workers} must be at least 1")

    def run(self, jobs: Sequence[ShardJob]) -> None:
        """Writes the shard and the record of every job; the first failure ends the others."""
        waiting: queue.SimpleQueue[ShardJob] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        packers: list[Packer] = []
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            for packer in packers:
                packer.stop()

        def work() -> None:
            packer = self.opener(jobs[0])
            packers.append(packer)
            try:
                while not stopped.is_set():
                    write_job(waiting.get_nowait(), packer)
            except (queue.Empty, PackingStopped):
                pass
            except BaseException:  # whatever ended this worker, the others stop; it is raised again
                stop()
                raise
            finally:
                packer.close()

        _run_in_threads(work, min(self.num_workers, len(jobs)), stop=stop)


def _run_in_threads(
    work: Callable[[], None], num_threads: int, *, stop: Callable[[], None]
) -> None:
    """Runs workers to their ends; the first failure, or Ctrl-C, stops the others and is raised."""
    if num_threads == 0:
        return
    with ThreadPoolExecutor(num_threads) as executor:
        workers = [executor.submit(work) for _ in range(num_threads)]
        try:
            for worker in workers:
                worker.result()
        except BaseException:  # also Ctrl-C, or leaving the block would wait for all the work
            stop()
            raise
