"""A bounded walk over the headers of a tar file.

Python's `tarfile` takes a damaged header for the end of the file, so a reader built on it loses
samples in silence, and in stream mode it can be sent round for hours by a size that lies. This
walk reads each header once, inside the file's real size, and refuses what it does not understand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_pipelines.remote_files import RemoteFile, RemoteFiles
from data_pipelines.urls import is_url, shown

BLOCK = 512
MAX_NAME_CHARACTERS = 255
_REGULAR = (b"0", b"\0")


class ShardError(ValueError):
    """A shard or an index that cannot be used, and where it is wrong."""


@dataclass(frozen=True)
class TarMember:
    """A file in a tar: where its bytes are."""

    name: str
    offset: int
    size: int


def open_tar(path: str | Path, *, remote: RemoteFiles | None = None) -> BinaryIO | RemoteFile:
    """Opens a tar of this machine, or one behind a URL, of which only what is read is fetched.

    Args:
        path: a path or a URL.
        remote: how to read a URL; None takes the usual patience.

    Raises:
        OSError: if it cannot be opened.
    """
    if is_url(str(path)):
        return RemoteFile(remote or RemoteFiles(), str(path))
    return Path(path).open("rb")


def walk_tar(path: str | Path) -> list[TarMember]:
    """Returns all members of an uncompressed tar of regular files; raises as `walk_open_tar`."""
    with open_tar(path) as file:
        return walk_open_tar(file, shown(str(path)))


def walk_open_tar(file: BinaryIO | RemoteFile, path: str) -> list[TarMember]:
    """Returns all members of an open tar, whose name is for messages only.

    Raises:
        ShardError: if the file is truncated, if a header is damaged, if a size does not fit the
            file, if a member is a link, a folder or another special thing, if a name comes twice,
            or if data follows the end mark.
        OSError: if the file cannot be read.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    offset = file.seek(0)
    members: list[TarMember] = []
    while True:
        header = file.read(BLOCK)
        if len(header) < BLOCK:
            raise ShardError(f"{path}: truncated: no end mark at byte {offset}")
        if header == bytes(BLOCK):
            break
        member = _parse_header(header, path=path, offset=offset, num_bytes=num_bytes)
        members.append(member)
        offset = member.offset + -(-member.size // BLOCK) * BLOCK
        file.seek(offset)
    _refuse_data_after_end(file, path=path)
    _refuse_duplicates(members, path)
    return members


def _parse_header(header: bytes, *, path: str, offset: int, num_bytes: int) -> TarMember:
    where = f"{path}: header at byte {offset}"
    if header[257:262] != b"ustar":
        hint = " (compressed? unpack it first)" if header[:2] == b"\x1f\x8b" else ""
        raise ShardError(f"{where}: not a tar header{hint}")
    if _octal(header[148:156], where) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise ShardError(f"{where}: damaged, its checksum differs")
    name = _name(header, where)
    if header[156:157] not in _REGULAR:
        raise ShardError(
            f"{where}: member '{name}' of type {header[156:157]!r} is not allowed, only plain files"
        )
    size = _octal(header[124:136], where)
    if offset + BLOCK + size > num_bytes:
        raise ShardError(
            f"{where}: '{name}' claims {size} bytes, the shard ends after "
            f"{num_bytes - offset - BLOCK} (truncated, or the size is false)"
        )
    return TarMember(name, offset + BLOCK, size)


def _name(header: bytes, where: str) -> str:
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    raw = header[:100].split(b"\0")[0]
    try:
        name = (prefix + b"/" + raw if prefix else raw).decode("utf-8")
    except UnicodeDecodeError:
        raise ShardError(f"{where}: the member's name is not UTF-8") from None
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ShardError(f"{where}: the member's name is empty, too long or not printable")
    return name.removeprefix("./")


def _octal(field: bytes, where: str) -> int:
    text = field.strip(b" \0")
    if not text or any(digit not in b"01234567" for digit in text):
        raise ShardError(f"{where}: damaged, {field!r} is not an octal number")
    return int(text, 8)


def _refuse_data_after_end(file: BinaryIO | RemoteFile, *, path: str) -> None:
    """The end mark is two zero blocks; writers fill up with zeros, and nothing else may follow."""
    second = file.read(BLOCK)
    if len(second) < BLOCK:
        raise ShardError(f"{path}: truncated: half an end mark at byte {file.tell()}")
    rest = second
    while rest:
        if rest.strip(b"\0"):
            raise ShardError(f"{path}: data after the end mark, before byte {file.tell()}")
        rest = file.read(1 << 20)


def _refuse_duplicates(members: list[TarMember], path: str) -> None:
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise ShardError(f"{path}: member '{member.name}' comes twice")
        seen.add(member.name)


def split_name(name: str) -> tuple[str, str]:
    """Splits a member's name as WebDataset does: "a/b.states.npy" is key "a/b", part "states.npy".

    Raises:
        ShardError: if there is no extension.
    """
    folder, file = os.path.split(name)
    stem, dot, extension = file.partition(".")
    if not stem or not dot or not extension:
        raise ShardError(f"member '{name}' has no key or no extension")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()
