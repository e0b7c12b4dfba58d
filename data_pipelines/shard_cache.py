"""Copies of remote shards on the local disk: fetched once per machine, whole, and not for ever."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from data_pipelines.remote_files import RemoteFileError, RemoteFiles, RetryPolicy
from data_pipelines.samples import Shard
from data_pipelines.shard_writing import replace_durably
from data_pipelines.urls import shown, split_url

logger = logging.getLogger(__name__)


class ShardCache:
    """A folder of whole shards that several processes fill and read together.

    A shard is fetched under a lock by the first process that asks; the others wait. It gets its
    name when all of it is on the disk and its size and SHA-256 are right, so a killed process, or a
    full disk, leaves nothing that looks like a shard. Beyond the limit the shards that were opened
    longest ago are removed; who has one open keeps it.

    Args:
        folder: on a disk of this machine; made if it is not there.
        max_bytes: of all shards in it.
        shards: of the index, which says sizes and SHA-256; others are taken as they come.
        retry: how often and how long each 16 MiB are tried.
        lock_seconds: how long another process's fetching is waited for.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int,
        shards: Sequence[Shard] = (),
        retry: RetryPolicy | None = None,
        lock_seconds: float = 60.0,
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.lock_seconds = lock_seconds
        self._expected = {shard.path: (shard.num_bytes, shard.sha256) for shard in shards}
        self._remote = RemoteFiles(retry)
        self._refused: set[str] = set()
        self._waited_for: set[str] = set()

    def open(self, url: str) -> BinaryIO | None:
        """Returns an open copy of a shard; None if it cannot be kept here, or not yet.

        Raises:
            RemoteFileError: if it has to be fetched and cannot be.
        """
        path = self.path_of(url)
        for _ in range(3):  # another process may remove it between two lines
            if (file := self._open_copy(path, url)) is not None:
                return file
            if url in self._refused or not self._fetch(url, path):
                return None
        return None

    def path_of(self, url: str) -> Path:
        """Returns where the copy of a shard lies, or would lie."""
        about = f"{shown(url)} {self._expected.get(url)}"
        return self.folder / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}-{_name(url)}"

    def drop(self, url: str) -> None:
        """Removes a copy whose bytes are not those of the index."""
        self.path_of(url).unlink(missing_ok=True)

    def _open_copy(self, path: Path, url: str) -> BinaryIO | None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        num_bytes = self._expected.get(url, (None, None))[0]
        if num_bytes is not None and os.fstat(file.fileno()).st_size != num_bytes:
            file.close()
            path.unlink(missing_ok=True)
            return None
        try:
            os.utime(path)  # the last to be removed
        except OSError:  # removed since, or of another user: no harm
            pass
        return file

    def _fetch(self, url: str, path: Path) -> bool:
        """Returns whether the copy is there now."""
        from filelock import FileLock, Timeout

        wait = 0.0 if url in self._waited_for else self.lock_seconds
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(_lock_of(path), timeout=wait):
                return path.exists() or self._fetch_locked(url, path)
        except Timeout:  # whoever fetches is slow; until then it is read from afar
            self._waited_for.add(url)
            return False
        except RemoteFileError:
            raise
        except OSError as error:
            return self._refuse(url, f"cannot be kept in {self.folder}: {error}")

    def _fetch_locked(self, url: str, path: Path) -> bool:
        num_bytes, sha256 = self._expected.get(url, (None, None))
        num_bytes = self._remote.size(url) if num_bytes is None else num_bytes
        if num_bytes > self.max_bytes:
            return self._refuse(url, f"{num_bytes} bytes are more than max_bytes={self.max_bytes}")
        self._make_room(num_bytes)
        unfinished = _unfinished(path)
        digest = hashlib.sha256()
        try:
            with unfinished.open("wb") as file:
                for piece in self._remote.pieces(url, 0, num_bytes):
                    file.write(piece)
                    digest.update(piece)
                file.flush()
                os.fsync(file.fileno())
            if sha256 is not None and digest.hexdigest() != sha256:
                return self._refuse(url, "is not what was packed (SHA-256 differs)")
            replace_durably(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        return True

    def _make_room(self, num_bytes: int) -> None:
        """Removes what killed processes left, and the oldest shards until the new one fits."""
        from filelock import FileLock, Timeout

        for unfinished in self.folder.glob(".*.part"):
            try:
                with FileLock(f"{unfinished}.lock".replace(".part.lock", ".lock"), timeout=0):
                    unfinished.unlink(missing_ok=True)
            except Timeout:
                pass  # being written
        found = []
        for path in self.folder.glob("*-*.tar"):
            try:
                about = path.stat()
            except FileNotFoundError:
                continue
            found.append((about.st_mtime_ns, about.st_size, path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left + num_bytes <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            left -= size

    def _refuse(self, url: str, reason: str) -> bool:
        """Says once that a shard is read from afar."""
        self._refused.add(url)
        logger.warning("%s %s; it is read from afar, sample by sample", shown(url), reason)
        return False


def _name(url: str) -> str:
    return split_url(url)[1]


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _lock_of(path: Path) -> str:
    return str(path.with_name(f".{path.name}.lock"))
