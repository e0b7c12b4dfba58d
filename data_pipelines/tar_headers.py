"""A bounded walk over the headers of a tar file.

Python's `tarfile` takes a damaged header for the end of the file, so a reader built on it loses
samples in silence, and in stream mode it can be sent round for hours by a size that lies. This
walk reads each header once, inside the file's real size, and says what it does not understand. It
goes on at the next header that is whole, so one damaged header costs one member, not the rest.

Files are read as USTAR, GNU's and PAX's tars have them. Folders are passed over: what lies in them
has its whole name. Links, devices and sparse files are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_pipelines.remote_files import RemoteFile, RemoteFiles
from data_pipelines.tar_extensions import (
    EXTENSION_TYPES,
    MAX_EXTENSION_BYTES,
    OF_ALL_MEMBERS,
    Extension,
    ExtensionError,
    extended,
)
from data_pipelines.urls import is_url, shown

BLOCK = 512
MAX_NAME_CHARACTERS = 255
SEARCH_BYTES = 1 << 18  # read at a time where a header is searched for
END_BYTES = 2 * BLOCK + 10_240 - BLOCK  # of the end mark and of what fills up the last record
_REGULAR = (b"0", b"\0")
_FOLDER = b"5"
_NAMES_OF_EXTENSIONS = (b"PaxHeader", b"@LongLink")  # as those who write them name them


class ShardError(ValueError):
    """A shard or an index that cannot be used, and where it is wrong."""


@dataclass(frozen=True)
class TarMember:
    """A file in a tar: where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarFault:
    """A part of a tar that cannot be used.

    Attributes:
        offset: where it begins.
        end: where the walk went on; the size of the file if nowhere.
        reason: what is wrong with it.
        name: of the member that it is, None if its header cannot be believed.
    """

    offset: int
    end: int
    reason: str
    name: str | None


@dataclass(frozen=True)
class _Entry:
    """What lies between two headers of files.

    Attributes:
        member: None at the end mark, and for a folder.
        end: where the next header is; None at the end mark.
    """

    member: TarMember | None
    end: int | None


class _Damage(Exception):
    """What is wrong with one header.

    Attributes:
        name: of the member, if that can be believed.
        search_from: where the next whole header may be.
        loses_next: True if the header may have said something of the next one, its name perhaps.
    """

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason)
        self.name = name
        self.search_from = 0
        self.loses_next = False


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
    """Returns all files of an uncompressed tar; raises as `walk_open_tar`."""
    with open_tar(path) as file:
        return walk_open_tar(file, shown(str(path)))


def walk_open_tar(file: BinaryIO | RemoteFile, path: str) -> list[TarMember]:
    """Returns all members of an open tar, whose name is for messages only.

    Raises:
        ShardError: if the file is truncated, if a header is damaged, if a size does not fit the
            file, if a member is a link or another special thing, if a name comes twice, or if data
            follows the end mark.
        OSError: if the file cannot be read.
    """
    members: list[TarMember] = []
    for found in survey_open_tar(file, path):
        if isinstance(found, TarFault):
            raise ShardError(f"{path}: {found.reason}")
        members.append(found)
    _refuse_duplicates(members, path)
    return members


def survey_open_tar(file: BinaryIO | RemoteFile, path: str) -> Iterator[TarMember | TarFault]:
    """Yields the members of an open tar and, between them, what is damaged, in their order.

    After a fault the walk goes on at the next block that is a whole header, whose checksum is
    right. What lies before it is read through, also from afar; a fault says how much that is. If
    what is damaged was said of the next member, its name perhaps, that one is part of the fault.

    Raises:
        ShardError: if a global PAX header renames all members.
        OSError: if the file cannot be read.
    """
    walk = _Walk(file, path)
    offset: int | None = 0
    while offset is not None:
        try:
            entry = walk.entry_at(offset)
        except _Damage as damage:
            following = walk.header_after(damage)
            end = walk.num_bytes if following is None else following
            yield TarFault(offset, max(end, offset), str(damage), damage.name)
            offset = following
            continue
        if entry.member is not None:
            yield entry.member
        offset = entry.end


class _Walk:
    """Reads entries where it is told that there is one.

    Args:
        file: the tar.
        path: its name, for messages.
    """

    def __init__(self, file: BinaryIO | RemoteFile, path: str) -> None:
        self.file = file
        self.path = path
        self.num_bytes = file.seek(0, os.SEEK_END)
        self._is_renaming = False  # names were said ahead of headers

    def entry_at(self, offset: int) -> _Entry:
        """Returns a file or a folder, with what is said ahead of its header.

        Raises:
            _Damage: if it cannot be used.
        """
        ahead, at = Extension(), offset
        while True:
            header = self._block_at(at)
            try:
                if header == bytes(BLOCK) and at == offset:
                    _refuse_data_after_end(self.file)
                    _refuse_long_end(at, self.num_bytes)
                    return _Entry(None, None)
                _refuse_damaged(header, at)
                if header[156:157] not in EXTENSION_TYPES:
                    return self._entry_of(header, ahead, at)
                ahead = self._extended(header, ahead, at)
            except _Damage as damage:
                damage.search_from = damage.search_from or at + BLOCK
                damage.loses_next = self._is_about_next(header, is_extended=at > offset)
                raise
            at = _end_of_data(header, at)

    def header_after(self, damage: _Damage) -> int | None:
        """Returns where the walk goes on after damage, None if nowhere."""
        following = self._next_header(damage.search_from)
        loses_next = damage.loses_next
        while loses_next and following is not None:
            header = self._block_at(following)
            loses_next = header[156:157] in EXTENSION_TYPES  # the member comes after it
            end = _end_of_data(header, following)
            following = self._next_header(end if end <= self.num_bytes else following + BLOCK)
        return following

    def _block_at(self, offset: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(BLOCK)

    def _entry_of(self, header: bytes, ahead: Extension, at: int) -> _Entry:
        """Returns the file or the folder of a header that is whole."""
        self._is_renaming |= ahead.name is not None
        if header[156:157] == _FOLDER:
            return _Entry(None, at + BLOCK)
        member = _member(header, ahead, offset=at, num_bytes=self.num_bytes)
        return _Entry(member, member.offset + _padded(member.size))

    def _extended(self, header: bytes, before: Extension, at: int) -> Extension:
        """Adds what the content of a header, which is next in the file, says of a member."""
        where, kind = f"header at byte {at}", header[156:157]
        size, left = _octal(header[124:136], where), self.num_bytes - at - BLOCK
        if size > min(MAX_EXTENSION_BYTES, left):
            damage = _Damage(
                f"{where}: {size} bytes about the next member; at most {MAX_EXTENSION_BYTES} are "
                f"read, and the shard ends after {left}"
            )
        else:
            try:
                return extended(before, kind, self.file.read(size))
            except ExtensionError as error:
                if kind == OF_ALL_MEMBERS:
                    raise ShardError(f"{self.path}: {where}: {error}; write it anew") from None
                damage = _Damage(f"{where}: {error}")
        damage.search_from = min(_end_of_data(header, at), self.num_bytes)
        raise damage

    def _is_about_next(self, header: bytes, *, is_extended: bool) -> bool:
        """Returns whether a header says something of the next one, or may have, if damaged."""
        if header[156:157] in EXTENSION_TYPES:
            return True
        if _has_magic(header) and _has_right_checksum(header):
            return False
        if any(name in header[:100] for name in _NAMES_OF_EXTENSIONS):
            return True
        is_plain = _has_magic(header) and header[156:157] in (*_REGULAR, _FOLDER)
        return self._is_renaming and not is_extended and not is_plain

    def _next_header(self, start: int) -> int | None:
        """Returns where the next block is that is a header with the right checksum."""
        for at in range(start, self.num_bytes - BLOCK + 1, SEARCH_BYTES):
            self.file.seek(at)
            data = self.file.read(SEARCH_BYTES)
            for place in range(0, len(data) - BLOCK + 1, BLOCK):
                block = data[place : place + BLOCK]
                if _has_magic(block) and _has_right_checksum(block):
                    return at + place
        return None


def _has_magic(header: bytes) -> bool:
    return header[257:262] == b"ustar"


def _has_right_checksum(header: bytes) -> bool:
    written = header[148:156].strip(b" \0")
    if not written or any(digit not in b"01234567" for digit in written):
        return False
    return int(written, 8) == sum(header[:148]) + 8 * 32 + sum(header[156:])


def _refuse_damaged(header: bytes, at: int) -> None:
    where = f"header at byte {at}"
    if len(header) < BLOCK:
        raise _Damage(f"truncated: no end mark at byte {at}")
    if not _has_magic(header):
        hint = " (compressed? unpack it first)" if header[:2] == b"\x1f\x8b" else ""
        raise _Damage(f"{where}: not a tar header{hint}")
    if not _has_right_checksum(header):
        raise _Damage(f"{where}: damaged, its checksum differs")


def _member(header: bytes, ahead: Extension, *, offset: int, num_bytes: int) -> TarMember:
    """Returns the file of a header that is whole, and of what was said ahead of it."""
    where = f"header at byte {offset}"
    name = _name(_raw_name(header) if ahead.name is None else ahead.name, where)
    if header[156:157] not in _REGULAR:
        kind = f"type {header[156:157]!r} is not allowed, only plain files"
        raise _Damage(f"{where}: member '{name}' of {kind}", name)
    if ahead.is_sparse:
        raise _Damage(f"{where}: '{name}' is a sparse file; write it anew without holes", name)
    size = _octal(header[124:136], where, name) if ahead.size is None else ahead.size
    if offset + BLOCK + size > num_bytes:
        raise _Damage(
            f"{where}: '{name}' claims {size} bytes, the shard ends after "
            f"{num_bytes - offset - BLOCK} (truncated, or the size is false)",
            name,
        )
    return TarMember(name, offset + BLOCK, size)


def _raw_name(header: bytes) -> bytes:
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    raw = header[:100].split(b"\0")[0]
    return prefix + b"/" + raw if prefix else raw


def _name(raw: bytes, where: str) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _Damage(f"{where}: the member's name is not UTF-8") from None
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise _Damage(f"{where}: the member's name is empty, too long or not printable")
    return name.removeprefix("./")


def _octal(field: bytes, where: str, name: str | None = None) -> int:
    text = field.strip(b" \0")
    if not text or any(digit not in b"01234567" for digit in text):
        raise _Damage(f"{where}: damaged, {field!r} is not an octal number", name)
    return int(text, 8)


def _end_of_data(header: bytes, at: int) -> int:
    """Returns where the next header is, of a header whose size may be nonsense."""
    digits = header[124:136].strip(b" \0")
    is_number = digits and not digits.strip(b"01234567")
    return at + BLOCK + _padded(int(digits, 8) if is_number else 0)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _refuse_data_after_end(file: BinaryIO | RemoteFile) -> None:
    """The end mark is two zero blocks; writers fill up with zeros, and nothing else may follow."""
    second = file.read(BLOCK)
    if len(second) < BLOCK:
        raise _Damage(f"truncated: half an end mark at byte {file.tell()}")
    rest = second
    while rest:
        if rest.strip(b"\0"):
            raise _Damage(f"data after the end mark, before byte {file.tell()}")
        rest = file.read(SEARCH_BYTES)


def _refuse_long_end(at: int, num_bytes: int) -> None:
    """A copy that was stopped, or a file system after a crash, leaves zeros where files were."""
    if num_bytes - at > END_BYTES:
        raise _Damage(
            f"only zeros from byte {at} on: {num_bytes - at} of them, and a tar ends with "
            f"{END_BYTES} at most; what was there is lost"
        )


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
