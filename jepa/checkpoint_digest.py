"""The SHA-256 of a training checkpoint, inside the file itself: damage is found before it is used.

torch.save writes a zip; its digest stands in the comment at the end, where torch does not look. A
file of digests beside it would be a second name to rename, and a kill between the two would leave
a good file that is refused. A copy keeps its digest, under any name.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

MARK = b"jepa-sha256:"
END = b"PK\x05\x06"  # opens the last record of a zip
END_BYTES = 22  # of that record, without a comment; its last two are the comment's length
COMMENT_BYTES = len(MARK) + 64
CHUNK_BYTES = 1 << 20


def write_sealed(content: dict[str, Any], file: BinaryIO) -> None:
    """Writes what torch.save does, and the digest of it.

    Args:
        content: of the checkpoint.
        file: to write from its start.

    Raises:
        OSError: it cannot be written; torch itself would say something else of a full disk.
    """
    hashing = _HashingFile(file)
    try:
        torch.save(content, hashing)  # pyright: ignore[reportArgumentType] - it only writes
    except RuntimeError as error:
        raise hashing.error or error from error
    hashing.seal()


def refuse_damage(path: Path) -> bool:
    """Reads a checkpoint once and compares it with the digest inside.

    Args:
        path: a file that torch.save or `write_sealed` made.

    Returns:
        True if it has a digest, which is right; False if it has none, as files of others have. Of
        those, the check sums are right that a zip has of every entry.

    Raises:
        ValueError: it is not what was written: cut short, changed, or no zip.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - COMMENT_BYTES - END_BYTES))
        tail = file.read()
        if tail[-END_BYTES:].startswith(END) and tail[-2:] == b"\0\0":
            _refuse_wrong_sums(path)
            return False
        written = _written_digest(tail)
        file.seek(0)
        found = _digest(file, size - COMMENT_BYTES - 2) if written else None
    if not written or found != written:
        raise ValueError(f"{path} is damaged: cut short or changed (its SHA-256 differs)")
    return True


class _HashingFile:
    """A file to write that keeps the digest of all but the last two bytes so far.

    Those are the length of a zip's comment, which the seal replaces.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._end = b""
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes all of it; remembers an OSError, as torch replaces it by one that says nothing."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        view = memoryview(data).cast("B")
        if view.nbytes >= 2:
            self._hash.update(self._end)
            self._hash.update(view[:-2])
            self._end = bytes(view[-2:])
        else:
            pending = self._end + bytes(view)
            self._hash.update(pending[:-2])
            self._end = pending[-2:]
        return view.nbytes

    def flush(self) -> None:
        """Does what the file does."""
        self._file.flush()

    def seal(self) -> None:
        """Writes the digest as the comment of the zip."""
        assert self._end == b"\0\0", "torch.save wrote a zip with a comment"
        self._file.seek(-2, 1)
        digest = self._hash.hexdigest().encode()
        self._file.write(struct.pack("<H", COMMENT_BYTES) + MARK + digest)


def _written_digest(tail: bytes) -> str:
    """Returns the digest at the end of a file, or "" if there is no whole one."""
    pattern = END + rb".{16}" + re.escape(struct.pack("<H", COMMENT_BYTES) + MARK) + rb"(\w{64})"
    found = re.fullmatch(pattern, tail, re.DOTALL)
    return found[1].decode("ascii", "replace") if found else ""


def _digest(file: BinaryIO, num_bytes: int) -> str:
    digest = hashlib.sha256()
    while num_bytes > 0 and (chunk := file.read(min(CHUNK_BYTES, num_bytes))):
        digest.update(chunk)
        num_bytes -= len(chunk)
    return digest.hexdigest()


def _refuse_wrong_sums(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: cut short or changed ({error})") from error
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong} in it is not what was written")
