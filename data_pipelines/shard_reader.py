"""Reading members of shards by offset."""

from __future__ import annotations

import io
import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_pipelines.samples import Sample
from data_pipelines.tar_headers import ShardError


class ShardReader:
    """Reads members by offset; keeps a few shards open.

    It may be carried into a worker process, forked or spawned: files are opened again there.
    """

    def __init__(self, max_open_files: int = 32) -> None:
        self.max_open_files = max_open_files
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()
        self._process_id = os.getpid()

    def read(self, sample: Sample, extension: str) -> bytes:
        """Returns the bytes of one member of a sample.

        Raises:
            ShardError: if the shard ends early, or if the bytes are not those that were packed.
            KeyError: if the sample has no such member.
        """
        member = sample.members[extension]
        data = _read_exactly(self._file(sample.shard), sample.shard, member.offset, member.size)
        if member.crc32 is not None and zlib.crc32(data) != member.crc32:
            raise ShardError(
                f"{sample.shard}: '{sample.key}.{extension}' is not what was packed "
                f"(CRC-32 differs at byte {member.offset}); pack it again"
            )
        return data

    def read_array(self, sample: Sample, extension: str) -> np.ndarray:
        """Returns a member that is a NumPy array; never unpickles.

        Raises:
            ShardError: as `read`, and if the bytes are no plain array.
        """
        data = self.read(sample, extension)
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ShardError(f"{sample.shard}: '{sample.key}.{extension}': {error}") from None

    def close(self) -> None:
        """Closes all files."""
        while self._files:
            self._files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"max_open_files": self.max_open_files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["max_open_files"])

    def _file(self, path: str) -> BinaryIO:
        if self._process_id != os.getpid():  # after a fork the offset would be shared
            self._files, self._process_id = OrderedDict(), os.getpid()
        if path not in self._files:
            self._files[path] = open(path, "rb")
            if len(self._files) > self.max_open_files:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]


def read_member(shard: str | Path, offset: int, size: int) -> bytes:
    """Returns `size` bytes of a shard from `offset` on.

    Raises:
        ShardError: if the shard ends before.
    """
    with open(shard, "rb") as file:
        return _read_exactly(file, str(shard), offset, size)


def _read_exactly(file: BinaryIO, path: str, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ShardError(f"{path} ends early: {len(data)} of {size} bytes at byte {offset}")
    return data
