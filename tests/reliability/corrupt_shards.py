"""Damaged tars of 13 classes, made from a whole one by changing bytes.

Where is drawn from a seed, so that any tar of a failing test can be made again.
"""

import gzip
import io
import random
import tarfile
from collections.abc import Callable, Iterator

BLOCK = 512
Members = list[tuple[str, bytes]]


def members_of(data: bytes) -> Members:
    """Returns names and bytes of all files of a whole tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # pyright: ignore


def tar_of(members: Members) -> bytes:
    """Returns a USTAR tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def headers_of(data: bytes) -> list[tuple[int, int]]:
    """Returns where each header is, and where the data behind it ends."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info.offset, info.offset_data + info.size) for info in tar]


def flipped_headers(data: bytes, count: int, *, seed: int = 0) -> Iterator[bytes]:
    """Yields tars of which one bit in one header is another."""
    rng, headers = random.Random(seed), headers_of(data)
    for _ in range(count):
        yield _header_flip(data, rng, headers)


def _header_flip(data: bytes, rng: random.Random, headers: list[tuple[int, int]] | None = None):
    changed = bytearray(data)
    start, _ = rng.choice(headers or headers_of(data))
    changed[start + rng.randrange(BLOCK)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut_in_data(data: bytes, rng: random.Random) -> bytes:
    start, end = rng.choice(headers_of(data))
    return data[: rng.randrange(start + BLOCK, end)]


def _cut_in_header(data: bytes, rng: random.Random) -> bytes:
    start, _ = rng.choice(headers_of(data))
    return data[: start + rng.randrange(1, BLOCK)]


def _cut_between(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice(headers_of(data)[1:])[0]]


def _zero_blocks(data: bytes, rng: random.Random) -> bytes:
    """Two blocks of zeros, which end a tar, where a header was."""
    start, _ = rng.choice(headers_of(data)[1:])
    return data[:start] + bytes(2 * BLOCK) + data[start + 2 * BLOCK :]


def _zero_tail(data: bytes, rng: random.Random) -> bytes:
    """Zeros from some block on: a copy that was stopped, of a file made long enough beforehand."""
    start, end = rng.choice(headers_of(data)[:-4])
    start = rng.choice([start, rng.randrange(start + BLOCK, end)])
    start -= start % BLOCK  # disks and networks lose blocks
    return data[:start].ljust(len(data), b"\0")


def _empty(data: bytes, rng: random.Random) -> bytes:
    return b""


def _all_zeros(data: bytes, rng: random.Random) -> bytes:
    return bytes(rng.choice([1, BLOCK, len(data)]))


def _page(data: bytes, rng: random.Random) -> bytes:
    """What a server sends instead of a file."""
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * rng.randint(1, 99)


def _compressed(data: bytes, rng: random.Random) -> bytes:
    return gzip.compress(data, rng.randint(1, 9), mtime=0)


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    members = members_of(data)
    members.insert(rng.randrange(len(members)), rng.choice(members))
    return tar_of(members)


def _interleaved(data: bytes, rng: random.Random) -> bytes:
    """The first file of a sample lies among those of a later one."""
    members = members_of(data)
    place = 2 * rng.randrange(len(members) // 2 - 1)
    members.insert(place + 2, members.pop(place))
    return tar_of(members)


def _size_lies(data: bytes, rng: random.Random) -> bytes:
    """A header whose size cannot be, and whose checksum is right."""
    start, _ = rng.choice(headers_of(data))
    changed = bytearray(data)
    size = rng.choice([b"77777777777\0", b"\x80" + (2**40).to_bytes(11, "big"), b"\xff" * 12])
    changed[start + 124 : start + 136] = size
    total = sum(changed[start : start + 148]) + 8 * 32 + sum(changed[start + 156 : start + BLOCK])
    changed[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(changed)


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut in data": _cut_in_data,
    "cut in header": _cut_in_header,
    "cut between": _cut_between,
    "header flip": _header_flip,
    "zero blocks": _zero_blocks,
    "zero tail": _zero_tail,
    "empty": _empty,
    "all zeros": _all_zeros,
    "page": _page,
    "compressed": _compressed,
    "duplicate": _duplicate,
    "interleaved": _interleaved,
    "size lies": _size_lies,
}
