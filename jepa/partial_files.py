"""Names of what is being written beside its target, and their end when a process died meanwhile."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import time
from pathlib import Path

PARTIAL = ".partial-"
SECONDS_OF_A_SAVE = 3600  # what is older and of another machine is of a dead process
logger = logging.getLogger(__name__)


def partial_of(path: Path) -> Path:
    """Returns NAME.partial-HOST-PROCESS, beside the path."""
    return path.with_name(f"{path.name}{PARTIAL}{_host()}-{os.getpid()}")


def sweep(folder: Path) -> None:
    """Removes files and folders in a folder that processes were writing when they died."""
    for path in folder.glob(f"*{PARTIAL}*"):
        if not _is_abandoned(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        logger.warning("removed %s, which a process that died was writing", path)


def sync_file(path: Path) -> None:
    """Puts a file, or the names in a folder, on the disk itself."""
    if path.is_dir() and os.name != "posix":
        return
    place = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _is_abandoned(path: Path) -> bool:
    host, _, process = path.name.rpartition(PARTIAL)[2].rpartition("-")
    if host in ("", _host()):  # without a host: of an earlier version
        return process.isdigit() and not _is_alive(int(process))
    try:
        return time.time() - path.stat().st_mtime > SECONDS_OF_A_SAVE
    except FileNotFoundError:  # it has just been given its name
        return False


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
