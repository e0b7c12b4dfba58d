"""HDF5 files from elsewhere, with one-line errors. The only file that imports h5py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from data_pipelines.frames import one_line
from data_pipelines.importers.base import SourceError

HDF5_EXTENSIONS = (".h5", ".hdf5")


class Hdf5Group(Protocol):
    """What we need of a file or a group in it (h5py's own types say "maybe" everywhere)."""

    @property
    def name(self) -> str:
        """Returns its path within the file."""
        ...

    @property
    def file(self) -> Any:  # noqa: ANN401
        """Returns the file it is in."""
        ...

    @property
    def attrs(self) -> Any:  # noqa: ANN401
        """Returns its attributes, by name."""
        ...

    def __contains__(self, name: str) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str) -> Any: ...  # noqa: ANN401


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5Group]:
    """Opens a file for reading, and closes it.

    Raises:
        ImportError: if h5py is not installed.
        SourceError: if the file is no HDF5 file, or damaged.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("HDF5 needs h5py: pip install 'jepa-planning[robot]'") from None
    with suppress(ImportError):
        import hdf5plugin  # pyright: ignore[reportMissingImports] # noqa: F401  (more filters)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path}: no HDF5 file, or damaged: {one_line(str(error))}") from None
    with file:
        yield cast(Hdf5Group, file)


def hdf5_files(source: Path) -> list[Path]:
    """Returns the HDF5 files of a source, sorted: itself, or all below a folder.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        SourceError: if there is no HDF5 file below it.
    """
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    if source.is_file():
        return [source]
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in HDF5_EXTENSIONS)
    if not files:
        raise SourceError(f"{source}: no {' or '.join(HDF5_EXTENSIONS)} file in this folder")
    return files


def has_array(group: Hdf5Group, name: str) -> bool:
    """True if a group has an array of this name; it may name sub-groups, as in "obs/image"."""
    return name in group and hasattr(group[name], "dtype")


def read_array(
    group: Hdf5Group, name: str, *, ndim: int | None = None, rows: slice = slice(None)
) -> np.ndarray:
    """Reads rows of an array, all of them if none are named.

    Args:
        group: a file or a group of it.
        name: may name sub-groups, as in "obs/image".
        ndim: the number of axes it must have.
        rows: of the first axis.

    Raises:
        SourceError: naming the file, if the array is missing, of another shape or unreadable.
    """
    where = f"{group.file.filename}: '{group.name.rstrip('/')}/{name}'"
    if not has_array(group, name):
        raise SourceError(f"{where} is missing; there are: {', '.join(sorted(group)) or 'none'}")
    array = group[name]
    if not array.ndim or (ndim is not None and array.ndim != ndim):
        raise SourceError(f"{where} must have {ndim or 'some'} axes, has shape {array.shape}")
    try:
        return array[rows]
    except OSError as error:
        hint = "; if a compression filter is missing: pip install hdf5plugin"
        raise SourceError(f"{where} cannot be read: {one_line(str(error))}{hint}") from None


def bounds_of_actions(low: np.ndarray, high: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Returns bounds that hold all recorded actions: [-1, 1] if it does, else what was seen.

    Args:
        low: (action_dim,), the least value seen of each column.
        high: (action_dim,), the greatest.

    Returns:
        Low and high bounds, low < high in each column.
    """
    if (low >= -1).all() and (high <= 1).all():
        return (-1.0,) * len(low), (1.0,) * len(low)
    constant = low == high  # a column that never moved: one unit to either side
    low, high = np.where(constant, low - 1, low), np.where(constant, high + 1, high)
    return tuple(low.tolist()), tuple(high.tolist())
