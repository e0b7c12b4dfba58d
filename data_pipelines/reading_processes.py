"""Processes that read for a data loader: how they end, and what is said of one that died.

They leave SIGTERM to the process that they read for, so only SIGKILL ends one that hangs.
"""

from __future__ import annotations

import signal
import weakref
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any


def let_them_end(batches: Any) -> None:  # noqa: ANN401 - PyTorch's iterator has no public name
    """Has the reading processes of a loader's iterator end soon after it, whatever they do.

    PyTorch tells them to end, waits for 5 s each, and calls `terminate()` for those that are left.
    That is a SIGTERM, which ours ignore: here it kills. And where the iterator is garbage of a
    cycle, as after an error, its queues would be closed before it is asked to tell anybody: they
    are kept outside of the cycle.
    """
    workers = workers_of(batches)
    if not workers or "terminate" in vars(workers[0]):  # of an epoch before
        return
    for worker in workers:
        process: Any = worker._popen  # pyright: ignore[reportAttributeAccessIssue]
        worker.terminate = process.terminate = process.kill  # the latter is called at exit
    weakref.finalize(batches, _drop, list(batches._index_queues)).atexit = False


def workers_of(batches: Any) -> Sequence[BaseProcess]:  # noqa: ANN401
    """Returns the reading processes of a loader's iterator; none if it reads by itself."""
    return getattr(batches, "_workers", ())


def refuse_dead(batches: Any, error: Exception) -> None:  # noqa: ANN401
    """Raises if a reading process has died, or is about to.

    Args:
        batches: a loader's iterator.
        error: that it raised; a connection that is cut may be the first sign of a death.

    Raises:
        ChildProcessError: naming the signal, and what most often sends it.
    """
    workers = workers_of(batches)
    try:
        if isinstance(error, OSError | EOFError):
            ending = wait([worker.sentinel for worker in workers], timeout=1.0)
            for worker in workers:
                worker.join(1.0 if worker.sentinel in ending else 0.0)
        exit_codes = [worker.exitcode for worker in workers]
    except RuntimeError:  # of PyTorch's handler of SIGCHLD, which speaks once
        exit_codes = [worker.exitcode for worker in workers]
    for exit_code in filter(None, exit_codes):
        raise ChildProcessError(_obituary(exit_code)) from None


def _drop(kept: list[Any]) -> None:
    """Lets go of what was kept."""


def _obituary(exit_code: int) -> str:
    if exit_code > 0:
        return f"a reading process ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    if name == "SIGKILL":
        return (
            "a reading process was killed (SIGKILL), most often because the memory is full: lower "
            "num_workers, prefetch_factor or batch_size, and resume"
        )
    return (
        f"a reading process crashed ({name}), most often in a decoder: isolate_decoding: true "
        "makes that a skipped sample"
    )
