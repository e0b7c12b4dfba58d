"""Parquet tables. The only file that imports pyarrow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.frames import one_line


class ParquetError(ValueError):
    """A file that is no Parquet table, or not the one that is asked for: one line that names it."""


class ParquetReader:
    """Reads rows of one Parquet file, without the columns and row groups that are not asked for.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ParquetError: if it is no Parquet file.
        ImportError: if pyarrow is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        pyarrow = _pyarrow()
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no Parquet file {path}")
        try:
            self._file: Any = pyarrow.parquet.ParquetFile(self.path)
        except (pyarrow.ArrowException, OSError) as error:
            raise ParquetError(
                f"{path} is not a readable Parquet file: {one_line(str(error))}"
            ) from None
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._group_starts = np.cumsum([0, *sizes])  # (groups + 1,)

    @property
    def num_rows(self) -> int:
        """Returns how many rows the file has."""
        return int(self._group_starts[-1])

    @property
    def names(self) -> list[str]:
        """Returns the names of the columns."""
        return list(self._file.schema_arrow.names)

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """Returns rows start to stop of a column as Python values."""
        return self._column(name, start, stop).to_pylist()

    def numbers(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns rows start to stop of a column of numbers, or of equally long lists of numbers.

        Returns:
            (rows, dim), of the column's own type; dim is 1 for plain numbers. Nulls are NaN.

        Raises:
            ParquetError: if the column holds other things, or lists of several lengths.
        """
        pyarrow = _pyarrow()
        column = self._column(name, start, stop)
        num_rows, flat = len(column), column
        while pyarrow.types.is_nested(flat.type):
            self._refuse_ragged(name, flat)
            flat = flat.flatten()
        if not (_is_number(pyarrow, flat.type) or pyarrow.types.is_boolean(flat.type)):
            raise ParquetError(f"{self.path}: column '{name}' holds {column.type}, not numbers")
        numbers = flat.to_numpy(zero_copy_only=False)
        return numbers.reshape(num_rows, -1) if num_rows else numbers.reshape(0, 1)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> ParquetReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_ragged(self, name: str, column: Any) -> None:  # noqa: ANN401
        types = _pyarrow().types
        if types.is_fixed_size_list(column.type):
            is_even = column.null_count == 0
        elif types.is_list(column.type) or types.is_large_list(column.type):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)  # NaN for no list
            is_even = bool((lengths == lengths[:1]).all())
        else:
            raise ParquetError(f"{self.path}: column '{name}' holds {column.type}, not numbers")
        if not is_even:
            raise ParquetError(f"{self.path}: column '{name}' has lists of several lengths")

    def _column(self, name: str, start: int, stop: int | None) -> Any:  # noqa: ANN401
        pyarrow = _pyarrow()
        if name not in self.names:
            raise ParquetError(f"{self.path} has no column '{name}'")
        stop = self.num_rows if stop is None else stop
        first = int(np.searchsorted(self._group_starts, start, side="right")) - 1
        last = int(np.searchsorted(self._group_starts, stop, side="left"))
        groups = list(range(max(first, 0), min(last, self._file.num_row_groups)))
        try:
            table = self._file.read_row_groups(groups, columns=[name], use_threads=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise ParquetError(f"{self.path}: column '{name}': {one_line(str(error))}") from None
        offset = int(self._group_starts[groups[0]]) if groups else 0
        rows = table.slice(start - offset, stop - start)
        return rows.column(rows.schema.get_field_index(name)).combine_chunks()


class ParquetWriter:
    """Writes a Parquet file in pieces; each piece is a row group.

    Args:
        path: the file; its folder is made.
        index: the column that is pandas' index when pandas reads the file; None if there is none.
    """

    def __init__(self, path: str | Path, *, index: str | None = None) -> None:
        self._pyarrow = _pyarrow()
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._index = index
        self._writer: Any = None

    def add(self, columns: Mapping[str, np.ndarray | Sequence[Any]]) -> None:
        """Adds rows.

        Args:
            columns: arrays (rows,), or (rows, dim) for lists of dim numbers, or Python values.
        """
        arrays = {name: self._array(values) for name, values in columns.items()}
        table = self._pyarrow.table(arrays)
        if self._index is not None:
            table = table.replace_schema_metadata({"pandas": _pandas_index(self._index)})
        if self._writer is None:
            self._writer = self._pyarrow.parquet.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _array(self, values: np.ndarray | Sequence[Any]) -> Any:  # noqa: ANN401
        if not isinstance(values, np.ndarray):
            return self._pyarrow.array(values)
        if values.ndim == 1:
            return self._pyarrow.array(values)
        flat = self._pyarrow.array(values.reshape(-1))
        return self._pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _is_number(pyarrow: Any, kind: Any) -> bool:  # noqa: ANN401
    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)


def _pandas_index(name: str) -> str:
    """Returns what pandas keeps in a file's schema to find its index of strings again."""
    column = {"name": name, "field_name": name, "pandas_type": "unicode", "numpy_type": "object"}
    columns = [{**column, "metadata": None}]
    return json.dumps({"index_columns": [name], "column_indexes": [], "columns": columns})


def _pyarrow() -> Any:  # noqa: ANN401
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: pip install 'jepa-planning[robot]'"
        ) from None
    return pyarrow
