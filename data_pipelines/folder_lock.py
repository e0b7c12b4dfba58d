"""A lock on a folder: one process writes there, and the lock goes when its process goes."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from data_pipelines.tar_headers import ShardError

LOCK_NAME = "lock"


class FolderLock:
    """Keeps other processes out of a hidden folder; on Windows it keeps out nobody.

    Args:
        folder: that holds the file of the lock; made if it is missing.
        shown: the folder that a message names, where the finished files go.
    """

    def __init__(self, folder: Path, shown: Path) -> None:
        self.folder = folder
        self.shown = shown
        self._file: TextIO | None = None

    def take(self) -> None:
        """Takes the lock.

        Raises:
            ShardError: if another process has it.
        """
        self.folder.mkdir(exist_ok=True)
        self._file = (self.folder / LOCK_NAME).open("w")
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ShardError(f"another process is writing to {self.shown}; wait for it") from None

    def release(self) -> None:
        """Gives the lock back, if it was taken."""
        if self._file is not None:
            self._file.close()
            self._file = None
