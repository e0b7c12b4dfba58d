"""One process writes in a run's folder: a lock that ends with its process, and says whose it is.

The lock is the kernel's, on the file `.lock`, so that a run that was killed leaves none behind. The
host and process that are written in it are for people.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import TextIO

NAME = ".lock"
logger = logging.getLogger(__name__)


class RunLock:
    """Keeps other processes out of a run's folder; on Windows it keeps out nobody.

    Args:
        folder: of the run; there already.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: TextIO | None = None

    def take(self) -> None:
        """Takes the lock; that of a process that was killed is taken over, and said.

        Raises:
            OSError: another process has it; names its host, process and start.
        """
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        while not self._is_the_file_of_this_name():  # it may be removed before it is locked
            # Not flock: a loader, forked from a process that was killed, would keep that a while.
            self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
            holder = _described(self._file.read())
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                self._file.close()
                self._file = None
                raise OSError(
                    f"another run writes in {self.path.parent} ({holder or 'it just began'}): "
                    "wait for it, stop it, or choose another folder with --name"
                ) from None
        if holder:
            logger.warning("%s: the run of %s was killed; going on", self.path.parent, holder)
        about = {"host": socket.gethostname(), "process": os.getpid()}
        self._write(json.dumps(about | {"since": time.strftime("%FT%T%z")}))

    def release(self) -> None:
        """Gives the lock back, if it was taken."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _is_the_file_of_this_name(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _write(self, text: str) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()


def _described(text: str) -> str:
    """Returns who has a lock in words; "" if nobody, or if the text is cut short."""
    try:
        content = json.loads(text)
        return "host {host}, process {process}, since {since}".format(**content)
    except (ValueError, TypeError, KeyError):
        return ""
