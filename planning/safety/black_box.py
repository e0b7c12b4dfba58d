"""The last moments of a run, in a file of fixed size that outlives a killed process."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from pathlib import Path
from typing import Any

MAGIC = b"JEPABOX1"
RECORD_BYTES = 512
NUM_RECORDS = 4096  # 2 MiB: seven minutes at ten steps a second
_HEAD = struct.Struct("<QII")  # number of the record from 1, bytes of text, their checksum


class BlackBox:
    """A ring of records: when it is full, the oldest gives way.

    The file is mapped into memory, so what was noted is there after kill -9; not after a power cut.
    A record that was being written is not read. Use it in a `with` block, or call `close`.

    Args:
        path: of the file; one that is there is begun anew.
        num_records: that it holds, each of `RECORD_BYTES`.

    Raises:
        ValueError: if it is to hold none.
    """

    def __init__(self, path: str | Path, *, num_records: int = NUM_RECORDS) -> None:
        if num_records < 1:
            raise ValueError(f"num_records must be at least 1, got {num_records}")
        self.path, self.num_records, self.num_noted = Path(path), num_records, 0
        size = RECORD_BYTES * (num_records + 1)
        with self.path.open("wb+") as file:
            file.write(MAGIC + struct.pack("<II", RECORD_BYTES, num_records))
            file.truncate(size)
            file.flush()
            self._map = mmap.mmap(file.fileno(), size)

    def __enter__(self) -> BlackBox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note(self, **content: Any) -> None:  # noqa: ANN401
        """Writes one record; what does not fit is cut off and marked."""
        text = json.dumps(content, separators=(",", ":"), default=str).encode()
        room = RECORD_BYTES - _HEAD.size
        if len(text) > room:
            short = text[: room - 40].decode(errors="ignore")[: (room - 40) // 2]
            text = json.dumps({"cut": short}, separators=(",", ":")).encode()[:room]
        place = RECORD_BYTES * (1 + self.num_noted % self.num_records)
        self.num_noted += 1
        self._map[place : place + _HEAD.size] = bytes(_HEAD.size)  # not valid while it is written
        self._map[place + _HEAD.size : place + _HEAD.size + len(text)] = text
        head = _HEAD.pack(self.num_noted, len(text), zlib.crc32(text))
        self._map[place : place + _HEAD.size] = head

    def close(self) -> None:
        """Ends it, and puts it on the disk."""
        self._map.flush()
        self._map.close()


def read_black_box(path: str | Path) -> list[dict[str, Any]]:
    """Returns the records that are whole, oldest first, each with its `number` from 1 on.

    Raises:
        ValueError: if the file is no black box.
    """
    content = Path(path).read_bytes()
    start = len(MAGIC)
    sizes = struct.unpack_from("<II", content, start) if len(content) >= start + 8 else (0, 0)
    if content[:start] != MAGIC or sizes[0] != RECORD_BYTES:
        raise ValueError(f"{path} is no black box of a run")
    records = []
    for place in range(RECORD_BYTES, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
        number, length, checksum = _HEAD.unpack_from(content, place)
        text = content[place + _HEAD.size : place + min(_HEAD.size + length, RECORD_BYTES)]
        if number and zlib.crc32(text) == checksum:
            records.append({"number": number, **json.loads(text)})
    return sorted(records, key=lambda record: record["number"])
