"""Pickles that hold arrays, numbers, text, lists and dictionaries, read without running anything.

TAP-Vid is published as pickles, and a pickle may call whatever it names. This reader lets it name
only those things that numpy's arrays are pickled with, and gives stand-ins for them: no function
of another package is ever called, and numpy itself only sees a type, a shape and bytes that were
checked. (To ask users to convert the files first would have meant to ask them to load the pickle.)
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.frames import one_line
from data_pipelines.importers.base import SourceError

_PLAIN_TYPE = re.compile(r"[biuf][1248]")
# What pickle raises for damaged bytes, and our stand-ins for what they are not made for.
_DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError,
    AttributeError, MemoryError, OverflowError, ImportError, RecursionError,
)  # fmt: skip


def read_plain_pickle(path: Path) -> Any:  # noqa: ANN401
    """Reads a pickle of plain values.

    Returns:
        What was pickled: dict, list, tuple, str, bytes, numbers, None, and arrays. An array of
        objects (such as one of compressed pictures) comes as a list.

    Raises:
        SourceError: if it names anything else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _settled(_PlainUnpickler(file).load())
    except _DAMAGED as error:
        raise SourceError(f"{path}: no pickle of plain values: {one_line(str(error))}") from None


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, name: object, *flags: object) -> None:
        self.name, self.order = str(name), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])


class _Array:
    """Stands in for an array that is being made; numpy fills it in a second step."""

    value: Any = None

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        self.value = _array_of(shape, kind, bool(is_fortran), data)


class _BufferArray:
    """Stands in for an array of protocol 5, which comes with its bytes."""

    def __init__(self, data: object, kind: _Type, shape: tuple[int, ...], order: str) -> None:
        if order not in ("C", "F"):
            raise ValueError(f"an array in the order {order!r}, not C or F")
        self.arguments = shape, kind, order == "F", data

    @property
    def value(self) -> Any:  # noqa: ANN401
        """The array; its type gets its byte order after it was named here."""
        return _array_of(*self.arguments)

    def __setstate__(self, state: object) -> None:
        raise ValueError("an array with bytes has no other state")


class _Scalar:
    """Stands in for a single number of numpy."""

    def __init__(self, kind: _Type, data: object) -> None:
        self.value = _array_of((), kind, False, data)[()]

    def __setstate__(self, state: object) -> None:
        raise ValueError("a number has no state")


class _Bytes:
    """Stands in for _codecs.encode and bytes(), with which old protocols write bytes."""

    def __init__(self, text: str = "", encoding: str = "latin1") -> None:
        if encoding != "latin1":
            raise ValueError(f"bytes are written as latin1, not as {encoding!r}")
        self.value = text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise ValueError("bytes have no state")


class _Name:
    """Stands in for the class numpy.ndarray, which is named and not called."""

    def __init__(self, *arguments: object) -> None:
        raise ValueError("numpy.ndarray is called")

    def __setstate__(self, state: object) -> None:
        raise ValueError("numpy.ndarray gets a state")


_ALLOWED = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Name,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _BufferArray,
    ("numpy._core.numeric", "_frombuffer"): _BufferArray,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("builtins", "bytes"): _Bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return _ALLOWED[module, name]


def _array_of(shape: Any, kind: Any, is_fortran: bool, data: Any) -> Any:  # noqa: ANN401
    if isinstance(data, _Bytes):
        data = data.value
    if not isinstance(kind, _Type) or not isinstance(shape, tuple):
        raise ValueError("an array without a type or a shape")
    if isinstance(data, list) and kind.name == "O8":
        if len(shape) != 1 or len(data) != shape[0]:
            raise ValueError(f"an array of objects of shape {shape} with {len(data)} objects")
        return data
    is_bytes = isinstance(data, (bytes, bytearray))
    if not _PLAIN_TYPE.fullmatch(kind.name) or kind.order not in "<>|=" or not is_bytes:
        raise ValueError(f"an array of {kind.order}{kind.name}; numbers and truth values are plain")
    flat = np.frombuffer(data, dtype=np.dtype(kind.order + kind.name))
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _settled(value: Any) -> Any:  # noqa: ANN401
    """Returns a value with arrays in the place of their stand-ins."""
    if isinstance(value, (_Array, _BufferArray, _Scalar, _Bytes)):
        return _settled(value.value)
    if isinstance(value, dict):
        return {_settled(key): _settled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_settled(item) for item in value])
    if isinstance(value, (_Type, _Name, type)):
        raise ValueError("it holds a type, not a value")
    return value
