"""A safetensors file that grows row by row, and takes its name when it is complete."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_SAFETENSORS_NAMES = {"float64": "F64", "int64": "I64", "float32": "F32", "float16": "F16"}


class RowFile:
    """A safetensors file whose tensors are filled row by row, without holding them in memory.

    Args:
        file: to write from its start.
        tensors: name -> (dtype, shape); the first axis is the one that is filled.
        metadata: for the header.

    Raises:
        ValueError: if the file would not fit on its disk.
    """

    def __init__(
        self,
        file: BinaryIO,
        tensors: dict[str, tuple[np.dtype, tuple[int, ...]]],
        metadata: dict[str, str],
    ) -> None:
        self.file = file
        header: dict[str, Any] = {"__metadata__": metadata}
        spans: dict[str, tuple[int, int]] = {}
        offset = 0
        for name in sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name)):
            dtype, shape = tensors[name]
            spans[name] = (offset, offset + dtype.itemsize * math.prod(shape))
            offset = spans[name][1]
            header[name] = {
                "dtype": _SAFETENSORS_NAMES[dtype.name],
                "shape": list(shape),
                "data_offsets": list(spans[name]),
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.num_bytes = 8 + len(text) + offset
        self._refuse_full_disk()
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        self.tensors = tensors
        self.ends = {name: start + end for name, (_, end) in spans.items()}
        self.places = {name: start + begin for name, (begin, _) in spans.items()}

    def append(self, name: str, rows: np.ndarray) -> None:
        """Writes the next rows of a tensor."""
        dtype, shape = self.tensors[name]
        if (rows.dtype, rows.shape[1:]) != (dtype, shape[1:]):
            raise RuntimeError(
                f"{name}: rows are {rows.dtype} {rows.shape[1:]}, not {dtype} {shape[1:]}"
            )
        self.file.seek(self.places[name])
        self.file.write(np.ascontiguousarray(rows).data)
        self.places[name] = self.file.tell()

    def finish(self) -> None:
        """Checks that every tensor is full."""
        if self.places != self.ends:
            short = [name for name, end in self.ends.items() if self.places[name] != end]
            raise RuntimeError(f"{', '.join(short)} not filled")

    def _refuse_full_disk(self) -> None:
        folder = Path(self.file.name).parent
        free = shutil.disk_usage(folder).free
        if self.num_bytes > free:
            needed, left = size_in_words(self.num_bytes), size_in_words(free)
            raise ValueError(
                f"the features take {needed}, but {folder} has {left} free; "
                "--pool frame, --dtype float16 or --fps make them smaller"
            )


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path`, which takes its name at the end, or vanishes on an error.

    Raises:
        ValueError: if the name does not end in .safetensors.
        FileNotFoundError: if there is no such folder.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {path}")
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}; make it first")
    unfinished = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def size_in_words(num_bytes: int) -> str:
    """Returns a number of bytes as kB or MB."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} kB"
