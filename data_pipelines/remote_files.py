"""Files behind URLs: web servers, S3-like stores and what else fsspec reads, asked again on faults.

The only file that names fsspec. Every read is bounded in attempts and in time, and gives the bytes
that were asked for or an error: never fewer bytes, and never those of an error page.

Settings of a store (an endpoint, a profile) are fsspec's own: `FSSPEC_S3_ENDPOINT_URL` and its
like, or files in `~/.config/fsspec`.
"""

from __future__ import annotations

import bisect
import io
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from data_pipelines.signs_of_life import SILENCE_SECONDS, show_life
from data_pipelines.urls import is_http, scheme_of, shown, without_secrets

logger = logging.getLogger(__name__)

PIECE_BYTES = 16 << 20  # longer reads are made of pieces, each with its own attempts and deadline
BLOCK_BYTES = 64 << 10  # what `RemoteFile` reads ahead
KEPT_BLOCKS = 256
PARALLEL_REQUESTS = 8
_PASSING_STATUS = (408, 425, 429)  # and all from 500 on
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

_random = random.SystemRandom()  # waits must not change what a seed decides

T = TypeVar("T")


class RemoteFileError(OSError):
    """A file behind a URL that cannot be read: where, why, and after how many attempts."""


class RemoteFileMissingError(RemoteFileError, FileNotFoundError):
    """There is no such file."""


class RemoteFileRefusedError(RemoteFileError):
    """The store will not give these bytes, however often it is asked."""


class _PassingFault(Exception):
    """A fault that may be gone when one asks again."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a read is tried. A read of more than 16 MiB is several reads.

    What fails in spite of it is a skipped sample, which another replaces: so the defaults bridge a
    failure of the store of 15 s, and lose 1 read in 250 of a store that fails every other time.

    Attributes:
        attempts: how often a read is tried.
        first_delay_seconds: wait after the first fault; each further wait is twice as long, and of
            each wait a random part of up to a half is left out, so that workers do not ask at once.
        max_delay_seconds: the longest wait.
        timeout_seconds: of a read, with all attempts and waits; below 120, or a process that reads
            would be taken for one that hangs.
        stall_seconds: an attempt in which no byte comes from a web server for so long is given
            up. Other stores do not tell; an attempt there may take half of the time that is left.
    """

    attempts: int = 8
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 8.0
    timeout_seconds: float = 60.0
    stall_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts} must be at least 1")
        if min(self.first_delay_seconds, self.max_delay_seconds) < 0:
            raise ValueError("delays must not be negative, in seconds")
        if min(self.timeout_seconds, self.stall_seconds) <= 0:
            raise ValueError("timeout_seconds and stall_seconds must be above 0")
        if self.timeout_seconds >= SILENCE_SECONDS:
            raise ValueError(
                f"timeout_seconds={self.timeout_seconds:g} must be below {SILENCE_SECONDS:g}; it "
                "is of 16 MiB at most, for longer reads are several"
            )

    def longest_delay_seconds(self, num_faults: int) -> float:
        """Returns the longest wait after so many faults: 1, 2, 4 ... times the first."""
        return min(self.first_delay_seconds * 2.0 ** (num_faults - 1), self.max_delay_seconds)


class RemoteInfo(NamedTuple):
    """What a store says of a file.

    Attributes:
        num_bytes: its size; None if the store does not say.
        version: changes when the file does (an ETag or a time); None if the store does not say.
    """

    num_bytes: int | None
    version: str | None


class RemoteFiles:
    """Reads files behind URLs; asks again when an answer is late, cut or an error.

    It may be used by several threads, and carried into a worker process, forked or spawned.
    """

    def __init__(self, retry: RetryPolicy | None = None) -> None:
        self.retry = retry or RetryPolicy()
        self._warned: set[str] = set()

    def read(self, url: str, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start` on, by one request per 16 MiB.

        Raises:
            RemoteFileError: if they cannot be had; RemoteFileMissingError if there is no file,
                RemoteFileRefusedError if asking again is no use.
            ImportError: if its kind of URL needs a package that is not installed.
            ValueError: if its kind of URL is not known.
        """
        return b"".join(self.pieces(url, start, size))

    def pieces(self, url: str, start: int, size: int) -> Iterator[bytes]:
        """Yields what `read` returns, in parts of 16 MiB; raises the same."""
        store, end = _store_of(url), start + size
        for at in range(start, end, PIECE_BYTES):
            num_bytes = min(PIECE_BYTES, end - at)
            yield self._ask(url, lambda limits: store.read(url, at, num_bytes, limits))  # noqa: B023

    def read_whole(self, url: str) -> bytes:
        """Returns all bytes of a file; raises as `read`."""
        store, num_bytes = _store_of(url), self.about(url).num_bytes
        if num_bytes is not None:
            return self.read(url, 0, num_bytes)
        return self._ask(url, lambda limits: store.read(url, 0, None, limits))

    def about(self, url: str) -> RemoteInfo:
        """Returns a file's size and version; raises as `read`."""
        store = _store_of(url)
        return self._ask(url, lambda limits: store.about(url, limits))

    def size(self, url: str) -> int:
        """Returns a file's size in bytes; raises as `read`, also if the store does not say it."""
        num_bytes = self.about(url).num_bytes
        if num_bytes is None:
            raise RemoteFileRefusedError(f"{shown(url)}: the store does not say how long it is")
        return num_bytes

    def sizes(self, urls: Sequence[str]) -> list[int | RemoteFileError]:
        """Returns the size of each file, or why it is not known; asks for several at a time."""
        first = [self._size_or_error(url) for url in urls[:1]]  # connects, once for all
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as executor:
            return first + list(executor.map(self._size_or_error, urls[1:]))

    def names_in(self, url: str) -> list[str]:
        """Returns the paths of all files below a folder, relative to it and sorted.

        A web server has no listing; the links of its page are taken for one.

        Raises:
            RemoteFileError: if it cannot be listed.
            ImportError, ValueError: as `read`.
        """
        store = _store_of(url)
        return sorted(self._ask(url, lambda limits: store.names_in(url, limits)))

    def _size_or_error(self, url: str) -> int | RemoteFileError:
        try:
            return self.size(url)
        except RemoteFileError as error:
            return error

    def _ask(self, url: str, attempt: Callable[[_Limits], T]) -> T:
        """Tries until it works, or until the attempts or the time are used up."""
        policy = self.retry
        deadline = time.monotonic() + policy.timeout_seconds
        reasons: dict[str, None] = {}  # different ones, in their order
        for number in range(1, policy.attempts + 1):
            left = deadline - time.monotonic()
            show_life()
            try:
                return attempt(_Limits(min(policy.stall_seconds, left), left))
            except _PassingFault as error:
                reasons[without_secrets(str(error))] = None
            except RemoteFileError as error:
                raise type(error)(f"{shown(url)}: {without_secrets(str(error))}") from None
            delay = policy.longest_delay_seconds(number) * _random.uniform(0.5, 1.0)
            if number == policy.attempts or time.monotonic() + delay >= deadline:
                break
            self._warn(url, next(iter(reasons)))
            time.sleep(delay)
        tried = f"{number} attempt{'' if number == 1 else 's'}"
        said = ", then ".join(reasons)
        raise RemoteFileError(f"{shown(url)}: {said} (given up after {tried})")

    def _warn(self, url: str, reason: str) -> None:
        """Says the first fault of each file only: a bad day of a store must not fill the log."""
        if url not in self._warned:
            self._warned.add(url)
            logger.warning("%s: %s; asking again, now and later", shown(url), reason)


class RemoteFile(io.RawIOBase):
    """A file behind a URL as the walk over a tar reads one: payloads are skipped, not fetched.

    Each request reads 64 KiB ahead, and what was read is kept for a second look, up to 16 MiB.
    """

    def __init__(self, files: RemoteFiles, url: str) -> None:
        super().__init__()
        self._files, self._url = files, url
        self._num_bytes = files.size(url)
        self._position = 0
        self._starts: list[int] = []  # of the kept blocks, sorted
        self._blocks: dict[int, bytes] = {}  # start -> bytes, the oldest first

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte, counted from the start, from here or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._num_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Returns `size` bytes, fewer only at the end of the file."""
        left = max(self._num_bytes - self._position, 0)
        size = left if size < 0 else min(size, left)
        if size == 0:
            return b""
        start = self._block_around(self._position, size)
        if start is None:
            start = self._fetch(self._position, min(max(size, BLOCK_BYTES), left))
        begin = self._position - start
        self._position += size
        return self._blocks[start][begin : begin + size]

    def _block_around(self, position: int, size: int) -> int | None:
        """Returns where a kept block starts that holds all of these bytes, None if none does."""
        place = bisect.bisect_right(self._starts, position) - 1
        if place < 0:
            return None
        start = self._starts[place]
        return start if position + size <= start + len(self._blocks[start]) else None

    def _fetch(self, start: int, size: int) -> int:
        self._blocks[start] = self._files.read(self._url, start, size)
        if len(self._blocks) > KEPT_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        self._starts = sorted(self._blocks)
        return start


class _Limits(NamedTuple):
    """How long an attempt may take: without a byte, and in all."""

    stall_seconds: float
    total_seconds: float


class _Store(Protocol):
    """One attempt at each thing; a fault that may pass is a `_PassingFault`."""

    def read(self, url: str, start: int, size: int | None, limits: _Limits) -> bytes:
        """Returns exactly these bytes; a size of None means all."""
        ...

    def about(self, url: str, limits: _Limits) -> RemoteInfo:
        """Returns size and version."""
        ...

    def names_in(self, url: str, limits: _Limits) -> list[str]:
        """Returns relative paths of all files below a folder."""
        ...


# A store of a parent process is kept in its forked children, unused: closing it there would tell
# the event loop's selector, which parent and child share, to forget the parent's connections.
_stores: dict[tuple[int, str], _Store] = {}


def _store_of(url: str) -> _Store:
    """Returns this process's store for a URL."""
    scheme = scheme_of(url)
    key = (os.getpid(), scheme)
    if key not in _stores:
        filesystem = _filesystem(scheme)
        _stores[key] = _WebStore(filesystem) if is_http(url) else _FsspecStore(filesystem)
    return _stores[key]


def _filesystem(scheme: str) -> Any:  # noqa: ANN401
    import fsspec

    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True)
    except ImportError as error:
        raise ImportError(f"{scheme}:// needs another package: {error}") from None


class _FsspecStore:
    """Any store that fsspec knows: S3-like ones, files, memory."""

    def __init__(self, filesystem: Any) -> None:  # noqa: ANN401
        self.filesystem = filesystem

    def read(self, url: str, start: int, size: int | None, limits: _Limits) -> bytes:
        """Returns exactly these bytes."""
        end = None if size is None else start + size
        data = self._call("cat_file", url, limits, start=start, end=end)
        if size is None or len(data) == size:
            return data
        if len(data) > size:
            raise _PassingFault(f"{len(data)} bytes came, {size} were asked for at byte {start}")
        said = f"ends early: {len(data)} of {size} bytes at byte {start}"
        try:
            num_bytes = self.about(url, limits).num_bytes
        except _PassingFault:
            num_bytes = None
        if num_bytes is not None and num_bytes < start + size:
            raise RemoteFileRefusedError(said)
        raise _PassingFault(said)

    def about(self, url: str, limits: _Limits) -> RemoteInfo:
        """Returns size and version."""
        self.filesystem.invalidate_cache()  # of listings: the file may have changed since
        info = self._call("info", url, limits)
        if info.get("type") == "directory":
            raise RemoteFileMissingError("is a folder")
        times = [info.get(name) for name in ("etag", "ETag", "mtime", "LastModified", "created")]
        version = next((str(time) for time in times if time is not None), None)
        return RemoteInfo(info.get("size"), version)

    def names_in(self, url: str, limits: _Limits) -> list[str]:
        """Returns relative paths of all files below a folder."""
        self.filesystem.invalidate_cache()
        base = self.filesystem._strip_protocol(url).rstrip("/")
        found = self._call("find", url.rstrip("/"), limits)
        return [path.removeprefix(base).lstrip("/") for path in found]

    def _call(self, name: str, url: str, limits: _Limits, **arguments: Any) -> Any:  # noqa: ANN401
        from fsspec.asyn import sync
        from fsspec.exceptions import FSTimeoutError

        store = self.filesystem
        timeout = max(limits.stall_seconds, limits.total_seconds / 2)
        try:
            if not store.async_impl:
                return getattr(store, name)(url, **arguments)
            return sync(store.loop, getattr(store, f"_{name}"), url, timeout=timeout, **arguments)
        except FSTimeoutError:
            raise _PassingFault(f"no answer within {timeout:.3g} s") from None
        except (FileNotFoundError, NotADirectoryError):
            raise RemoteFileMissingError("no such file") from None
        except IsADirectoryError:
            raise RemoteFileMissingError("is a folder") from None
        except PermissionError as error:
            raise RemoteFileRefusedError(f"access denied ({error})") from None
        except Exception as error:  # each store has its own library, with its own errors
            raise _PassingFault(f"{type(error).__name__}: {error}") from None


class _WebStore(_FsspecStore):
    """A web server, whose status and headers are looked at before its bytes are believed."""

    def read(self, url: str, start: int, size: int | None, limits: _Limits) -> bytes:
        """Returns exactly these bytes."""
        return self._run(self._read, url, start, size, limits)

    def about(self, url: str, limits: _Limits) -> RemoteInfo:
        """Returns size and version, by a read of one byte: signed URLs refuse a HEAD."""
        return self._run(self._about, url, limits)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        from fsspec.asyn import sync
        from fsspec.exceptions import FSTimeoutError

        timeout = arguments[-1].total_seconds
        try:
            return sync(self.filesystem.loop, function, *arguments, timeout=timeout)
        except FSTimeoutError:
            raise _PassingFault(f"not done within {timeout:.3g} s") from None

    async def _read(self, url: str, start: int, size: int | None, limits: _Limits) -> bytes:
        async with self._answer(url, start, size, limits) as answer:
            if size is None:
                _refuse_unsaid_end(answer.headers)
                return await answer.content.read()
            skip = 0 if answer.status == 206 else start  # status 200 sends all from byte 0
            if skip and url not in _ignoring_ranges:
                _ignoring_ranges.add(url)
                logger.warning(
                    "%s: the server ignores Range and sends whole files; reading will be slow: "
                    "use another server, or a local copy",
                    shown(url),
                )
            while skip:
                skip -= len(await answer.content.readexactly(min(skip, 1 << 16)))
            return await answer.content.readexactly(size)

    async def _about(self, url: str, limits: _Limits) -> RemoteInfo:
        async with self._answer(url, 0, 1, limits, may_be_empty=True) as answer:
            whole = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if answer.status == 416:
                text = answer.headers.get("Content-Range", "").rpartition("/")[2]
            else:
                text = whole[3] if whole else answer.headers.get("Content-Length", "")
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            return RemoteInfo(int(text) if text.isdigit() else None, version)

    @asynccontextmanager
    async def _answer(
        self,
        url: str,
        start: int,
        size: int | None,
        limits: _Limits,
        *,
        may_be_empty: bool = False,
    ) -> AsyncIterator[Any]:
        """Yields an answer that holds these bytes, as far as its headers tell."""
        import aiohttp

        store, stall = self.filesystem, limits.stall_seconds
        options = dict(store.kwargs)
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
        if size is not None:
            headers["Range"] = f"bytes={start}-{start + size - 1}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=stall, sock_read=stall)
        options |= {"headers": headers, "timeout": timeout}
        with _faults_of_the_web(stall):
            session = await store.set_session()
            async with session.get(store.encode_url(url), **options) as answer:
                if not (may_be_empty and answer.status == 416):
                    _refuse_status(answer.status, answer.reason, start)
                    _refuse_other_content(answer.status, answer.headers, start, size)
                yield answer


@contextmanager
def _faults_of_the_web(stall_seconds: float) -> Iterator[None]:
    """Turns the errors of a connection into ours."""
    import asyncio

    import aiohttp

    try:
        yield
    except RemoteFileError:
        raise
    except aiohttp.InvalidURL:
        raise RemoteFileRefusedError("is no web address") from None
    except asyncio.IncompleteReadError as error:
        came = f"{len(error.partial)} of {error.expected} bytes"
        raise _PassingFault(f"the connection ended early: {came} came") from None
    except asyncio.TimeoutError:
        raise _PassingFault(f"stalled: no byte for {stall_seconds:.3g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise _PassingFault(f"{type(error).__name__}: {error}") from None


_ignoring_ranges: set[str] = set()


def _refuse_status(status: int, reason: str | None, start: int) -> None:
    """Raises for an answer that is no content, of the kind that says whether to ask again."""
    said = f"status {status} ({reason})" if reason else f"status {status}"
    if status in (404, 410):
        raise RemoteFileMissingError(said)
    if status == 416:
        raise RemoteFileRefusedError(f"ends early: no byte {start} in it ({said})")
    if status in _PASSING_STATUS or status >= 500:
        raise _PassingFault(said)
    if status >= 400:
        raise RemoteFileRefusedError(said)
    if status not in (200, 206):
        raise _PassingFault(said)


def _refuse_unsaid_end(headers: Any) -> None:  # noqa: ANN401
    """Raises if a whole file comes whose end is where the connection ends: a cut would look so."""
    is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    if "Content-Length" not in headers and not is_chunked:
        raise _PassingFault("the server does not say how long it is, so a cut would go unnoticed")


def _refuse_other_content(status: int, headers: Any, start: int, size: int | None) -> None:  # noqa: ANN401
    """Raises if the headers tell of a page, or of other bytes than those asked for."""
    if headers.get("Content-Type", "").startswith("text/html"):
        raise _PassingFault(f"an HTML page came instead of data (status {status})")
    if size is None:
        return
    if status == 200:
        length = headers.get("Content-Length", "")
        if length.isdigit() and int(length) < start + size and start > 0:
            raise _PassingFault(f"status 200 with {length} bytes, no range from byte {start} on")
        return
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        came = headers.get("Content-Range", "no Content-Range")
        raise _PassingFault(f"asked for bytes from {start} on, got {came}")
    last = int(found[2])
    if last < start + size - 1:
        said = f"ends early: {last + 1 - start} of {size} bytes at byte {start}"
        if found[3].isdigit() and last + 1 == int(found[3]):
            raise RemoteFileRefusedError(said)
        raise _PassingFault(said)
