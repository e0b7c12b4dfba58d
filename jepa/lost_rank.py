"""When one process of a run is killed: the others end soon, and one line names what happened.

A process that is killed (no memory, a reboot) says nothing. The others see a broken connection, or
nothing at all as long as they compute; a rank whose launcher is gone may wait for half an hour.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from subprocess import Popen

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from jepa.command_line import LAUNCHER

SECONDS_TO_SEE_IT = 2.0  # a connection breaks before the kernel says how a process ended
SECONDS_TO_END = 5.0  # a rank that notices it by itself says it, and ends, in this time
POLL_SECONDS = 0.2
EXIT_CODE = 2
TERMINATED = 128 + signal.SIGTERM  # all ranks agreed to stop


class LostRankError(ConnectionError):
    """Another process of the run was killed."""


def mark_launcher() -> None:
    """Lets the ranks that Lightning starts from this process know that it is their launcher."""
    if "LOCAL_RANK" not in os.environ:  # else torchrun, Slurm or a rank 0 has started this one
        os.environ[LAUNCHER] = str(os.getpid())


class RankWatch(Callback):
    """Watches the other processes of a run on this machine, in the place of Lightning's observer.

    That one looks every five seconds, kills rank 0 when another rank has ended with 143, as all do
    after a SIGTERM, and does not look from a rank to its launcher. With torchrun and Slurm, which
    start all ranks themselves, nothing is watched: they do it.
    """

    def __init__(self) -> None:
        self._children: Sequence[Popen] = ()
        self._launcher_pid: int | None = None
        self._is_on = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins to watch: rank 0 those that it started, they rank 0."""
        self._children = getattr(trainer.strategy.launcher, "procs", ())
        if os.environ.get(LAUNCHER) == str(os.getppid()) and trainer.local_rank > 0:
            self._launcher_pid = os.getppid()
        is_alone = not self._children and self._launcher_pid is None
        if self._is_on or is_alone:
            return
        self._is_on = True
        _retire_observer()
        threading.Thread(target=self._watch, daemon=True, name="rank-watch").start()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Rank 0, if it can still say what went wrong, tells the others that it does."""
        if isinstance(exception, SIGTERMException) or self._seen_after(exception):
            return
        for process in self._children:
            process.send_signal(signal.SIGTERM)

    def explain(self, error: BaseException, *, is_told: bool, way_out: str = "") -> None:
        """Raises what a broken connection means, if it means that a process was killed.

        Args:
            error: that a rank ended with.
            is_told: rank 0 has announced that it says itself what went wrong.
            way_out: what to do now.

        Raises:
            LostRankError: in rank 0, which names the rank. Another one writes the line, as it is
                silent when its launcher has ended.
        """
        sentence = self._seen_after(error)
        if sentence is None or is_told:
            return
        if self._launcher_pid is None:
            raise LostRankError(f"{sentence}; {way_out}".strip("; ")) from error
        write_line(sentence)

    def _seen_after(self, error: BaseException) -> str | None:
        """Returns what happened to another process, once the kernel tells it."""
        deadline = time.monotonic() + SECONDS_TO_SEE_IT
        while self._is_on and isinstance(error, RuntimeError):
            if (sentence := self._sentence()) or time.monotonic() > deadline:
                return sentence
            time.sleep(0.02)
        return None

    def _sentence(self) -> str | None:
        for rank, process in enumerate(self._children, start=1):
            code = process.poll()
            if code is not None and code < 0:
                return f"rank {rank} was ended by {_name_of(-code)}"
        if self._launcher_pid is not None and os.getppid() != self._launcher_pid:
            return "rank 0 ended without a word, so it was killed"
        return None

    def _watch(self) -> None:
        """Ends this process when another has ended and this one has not seen it in time."""
        while not self._has_lost_one():
            time.sleep(POLL_SECONDS)
        time.sleep(SECONDS_TO_END)
        if sentence := self._sentence():
            write_line(f"{sentence}; this rank waited for it")
        for process in self._children:
            process.kill()
        os._exit(EXIT_CODE)

    def _has_lost_one(self) -> bool:
        codes = {process.poll() for process in self._children}
        return self._sentence() is not None or bool(codes - {None, 0, TERMINATED})


def write_line(sentence: str) -> None:
    """Writes an error line of this rank; of all that lost their launcher, the first one does."""
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank in ("0", "1"):
        label = "" if rank == "0" else f"[rank {rank}] "
        print(f"error: {label}{sentence}", file=sys.stderr, flush=True)


def _name_of(number: int) -> str:
    """Returns a signal's name, and what it usually means."""
    name = signal.Signals(number).name
    return f"{name} (out of memory?)" if number == signal.SIGKILL else name


def _retire_observer() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []  # it ends when it looks next
