"""Writing training checkpoints so that a kill or a full disk costs no good one.

checkpoints/last.ckpt            the newest; its SHA-256 is inside (`jepa.checkpoint_digest`)
checkpoints/last.ckpt.previous   the one before: there from the moment of the next save on
checkpoints/last.ckpt.partial-HOST-PID   being written; the next save removes a dead process's
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from jepa.checkpoint_digest import refuse_damage, write_sealed
from jepa.checkpoint_file import previous_of, read_content
from jepa.checkpoint_secrets import without_secrets
from jepa.partial_files import partial_of, sweep, sync_file

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, reads it back, then renames: a kill leaves the old file whole.

    Lightning stages in the system's temporary folder; where that is another file system, the last
    step is a copy, and a kill in its middle destroys the only good checkpoint. So does a full disk.

    A file that is replaced stays as NAME.previous, if it was good: there is always one to go on
    from. While a file is written there are three.

    Args:
        failures_allowed: steps in a row whose saves may fail for want of a disk, with an error that
            is logged, before one raises. A disk that others filled is often emptied again, so
            `jepa fit` allows two; 0 raises at once.
    """

    def __init__(self, failures_allowed: int = 0) -> None:
        self.failures_allowed = failures_allowed
        self.failures = 0
        self._failed_step: int | None = None
        self._good: dict[Path, tuple[int, int, int]] = {}
        self._swept: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Saves to `path`, which holds either the old content or all of the new one.

        Raises:
            OSError: it cannot be written, more often in a row than is allowed; says what is needed
                and what is free.
        """
        target = Path(path)
        try:
            self._sweep(target.parent)
            self._write(without_secrets(checkpoint), target)
        except OSError as error:
            if (step := checkpoint.get("global_step")) != self._failed_step or not self.failures:
                self.failures, self._failed_step = self.failures + 1, step
            message = self._why_not(error, target, checkpoint)
            if self.failures > self.failures_allowed:
                raise OSError(error.errno, message) from error
            logger.error("%s", message)
        else:
            self.failures = 0

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint to the CPU; whatever is asked for, no code in it is run.

        Raises:
            ValueError: it is damaged, or something else.
        """
        return read_content(Path(path), mapped=False)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, and its previous one; nothing, while the last save has failed."""
        if self.failures:
            logger.error("%s is kept, as what should replace it could not be written", path)
            return
        super().remove_checkpoint(path)
        previous_of(Path(path)).unlink(missing_ok=True)

    def _write(self, checkpoint: dict[str, Any], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(target)
        try:
            with partial.open("wb") as file:
                write_sealed(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _read_back(partial)
            self._keep_previous(target)
            os.replace(partial, target)
            sync_file(target.parent)
        finally:
            partial.unlink(missing_ok=True)
        self._good[target] = _identity(target)

    def _keep_previous(self, target: Path) -> None:
        """Gives the file that is to be replaced a second name, unless it is damaged."""
        if not target.is_file() or not self._is_good(target):
            return
        link = partial_of(previous_of(target))
        try:
            link.unlink(missing_ok=True)
            os.link(target, link)
        except OSError:  # a file system without links: for a moment there is the previous one only
            os.replace(target, previous_of(target))
            return
        os.replace(link, previous_of(target))
        link.unlink(missing_ok=True)  # stays if both were names of one file

    def _is_good(self, path: Path) -> bool:
        if self._good.get(path) == _identity(path):
            return True
        try:
            refuse_damage(path)
        except ValueError:
            return False
        return True

    def _sweep(self, folder: Path) -> None:
        """Removes what dead processes were writing here; once."""
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder)

    def _why_not(self, error: OSError, target: Path, checkpoint: dict[str, Any]) -> str:
        free = shutil.disk_usage(_that_exists(target.parent)).free
        kept = [str(path) for path in (target, previous_of(target)) if path.is_file()]
        stands = f"{kept[0]} is as it was" if kept else "there is no earlier one of this name"
        tries = f"{self.failures} of {self.failures_allowed + 1} in a row, then the run stops"
        return (
            f"cannot write the checkpoint {target} ({error.strerror or error}): "
            f"{num_bytes_of(checkpoint):,} bytes needed, {free:,} free; {stands} ({tries})"
        )


def num_bytes_of(content: object) -> int:
    """Returns the bytes of all tensors in nested containers, each memory counted once."""
    found: dict[int, int] = {}
    _count_bytes(content, found)
    return sum(found.values())


def _count_bytes(content: object, found: dict[int, int]) -> None:
    if isinstance(content, Tensor):
        storage = content.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    elif isinstance(content, Mapping):
        for value in content.values():
            _count_bytes(value, found)
    elif isinstance(content, (list, tuple)):
        for value in content:
            _count_bytes(value, found)


def _read_back(path: Path) -> None:
    try:
        refuse_damage(path)
    except ValueError as error:
        raise OSError(errno.EIO, "what is on the disk is not what was written") from error


def _that_exists(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _identity(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size
