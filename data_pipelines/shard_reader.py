"""Reading members of shards by offset, from the disk or from afar."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_pipelines.remote_files import RemoteFileError, RemoteFiles, RetryPolicy
from data_pipelines.samples import Member, Sample
from data_pipelines.shard_cache import ShardCache
from data_pipelines.tar_headers import ShardError
from data_pipelines.urls import is_url, shown

NEIGHBOUR_BYTES = 1 << 20  # read along rather than ask again: what a round trip would have carried


class ShardReader:
    """Reads members by offset; keeps a few shards open.

    A member of a remote shard is one range read, which brings the sample's other members along if
    they are small. A read that fails is tried again, as the policy says; a shard that failed in
    spite of it is tried once per read from then on, until it answers.

    It may be carried into a worker process, forked or spawned: files are opened again there.

    Args:
        max_open_files: shards of this machine that are open at a time.
        retry: how often and how long a remote shard is tried.
        cache: keeps whole copies of remote shards; None reads what is needed only.
    """

    def __init__(
        self,
        max_open_files: int = 32,
        *,
        retry: RetryPolicy | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        self.max_open_files = max_open_files
        self.retry = retry or RetryPolicy()
        self.cache = cache
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()
        self._process_id = os.getpid()
        self._patient = RemoteFiles(self.retry)
        self._impatient = RemoteFiles(replace(self.retry, attempts=1))
        self._failing: set[str] = set()
        self._held = _Span("", 0, b"")

    def read(self, sample: Sample, extension: str) -> bytes:
        """Returns the bytes of one member of a sample.

        Raises:
            ShardError: if the shard cannot be opened, ends early or cannot be read from afar, or if
                the bytes are not those that were packed.
            KeyError: if the sample has no such member.
        """
        member = sample.members[extension]
        data = self._bytes(sample, member)
        if not _is_as_packed(data, member) and is_url(sample.shard):
            data = self._bytes_anew(sample, member)  # a byte may be lost on the way
        if not _is_as_packed(data, member):
            raise ShardError(
                f"{shown(sample.shard)}: '{sample.key}.{extension}' is not what was packed "
                f"(CRC-32 differs at byte {member.offset}); pack it again"
            )
        return data

    def prefetch(self, sample: Sample, extensions: Iterable[str]) -> None:
        """Fetches members that are read next, by one request if their shard is remote.

        Raises:
            ShardError, KeyError: as `read`.
        """
        members = [sample.members[extension] for extension in extensions]
        if members and is_url(sample.shard) and self._file(sample.shard) is None:
            start = min(member.offset for member in members)
            self._hold(sample.shard, start, max(m.offset + m.size for m in members) - start)

    def read_array(self, sample: Sample, extension: str) -> np.ndarray:
        """Returns a member that is a NumPy array; never unpickles.

        Raises:
            ShardError: as `read`, and if the bytes are no plain array.
        """
        data = self.read(sample, extension)
        where = f"{shown(sample.shard)}: '{sample.key}.{extension}'"
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ShardError(f"{where}: {error}") from None
        except zipfile.BadZipFile as error:
            raise ShardError(f"{where}: no array, but a damaged zip file: {error}") from None
        if not isinstance(array, np.ndarray):  # of a zip file, NumPy makes a mapping
            raise ShardError(f"{where}: no array, but a zip file; pack what np.save writes")
        return array

    def close(self) -> None:
        """Closes all files."""
        while self._files:
            self._files.popitem()[1].close()
        self._held = _Span("", 0, b"")

    def __getstate__(self) -> dict[str, Any]:
        return {"max_open_files": self.max_open_files, "retry": self.retry, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _bytes(self, sample: Sample, member: Member) -> bytes:
        file = self._file(sample.shard)
        if file is not None:
            return _read_exactly(file, shown(sample.shard), member.offset, member.size)
        if not self._held.holds(sample.shard, member):
            start, end = _with_small_neighbours(sample, member)
            self._hold(sample.shard, start, end - start)
        return self._held.bytes_of(member)

    def _bytes_anew(self, sample: Sample, member: Member) -> bytes:
        """Reads one member from afar, whatever is held or cached; a bad copy is removed."""
        self._hold(sample.shard, member.offset, member.size)
        data = self._held.bytes_of(member)
        if self.cache is not None and _is_as_packed(data, member):
            self.cache.drop(sample.shard)
            if (file := self._files.pop(sample.shard, None)) is not None:
                file.close()
        return data

    def _hold(self, url: str, start: int, size: int) -> None:
        """Fetches a span of a remote shard and keeps it, until the next one."""
        files = self._impatient if url in self._failing else self._patient
        try:
            self._held = _Span(url, start, files.read(url, start, size))
        except RemoteFileError as error:
            self._failing.add(url)
            raise ShardError(str(error)) from None
        self._failing.discard(url)

    def _file(self, path: str) -> BinaryIO | None:
        """Returns an open file; None for a remote shard of which there is no copy."""
        if self._process_id != os.getpid():  # after a fork the offset would be shared
            self._files, self._process_id = OrderedDict(), os.getpid()
        if path not in self._files:
            file = self._open_copy(path) if is_url(path) else _open(path)
            if file is None:
                return None
            self._files[path] = file
            if len(self._files) > self.max_open_files:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def _open_copy(self, url: str) -> BinaryIO | None:
        if self.cache is None:
            return None
        try:
            return self.cache.open(url)
        except RemoteFileError as error:
            raise ShardError(str(error)) from None


class _Span(NamedTuple):
    """Bytes of a remote shard, from a start on."""

    url: str
    start: int
    data: bytes

    def holds(self, url: str, member: Member) -> bool:
        """Returns whether all of a member is in it."""
        end = self.start + len(self.data)
        return url == self.url and self.start <= member.offset <= end - member.size

    def bytes_of(self, member: Member) -> bytes:
        """Returns a member that is in it."""
        begin = member.offset - self.start
        return self.data[begin : begin + member.size]


def _with_small_neighbours(sample: Sample, member: Member) -> tuple[int, int]:
    """Returns first and end byte of a member and those beside it that add little."""
    start, end = member.offset, member.offset + member.size
    left = NEIGHBOUR_BYTES
    nearest_first = sorted(sample.members.values(), key=lambda m: abs(m.offset - member.offset))
    for other in nearest_first:
        begin, stop = min(start, other.offset), max(end, other.offset + other.size)
        added = (stop - begin) - (end - start)
        if added <= left:
            start, end, left = begin, stop, left - added
    return start, end


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:  # it was there when the index was loaded
        raise ShardError(f"{path} cannot be opened: {error.strerror}") from None


def _is_as_packed(data: bytes, member: Member) -> bool:
    return member.crc32 is None or zlib.crc32(data) == member.crc32


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
