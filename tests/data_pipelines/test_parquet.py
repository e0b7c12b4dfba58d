import numpy as np
import pytest

from data_pipelines.parquet import ParquetError, ParquetReader, ParquetWriter

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def path(tmp_path):
    """Ten rows in row groups of four."""
    numbers = np.arange(20, dtype=np.float32).reshape(10, 2)
    columns = {
        "pairs": pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 2),
        "loose": pa.array(numbers.tolist()),
        "ragged": pa.array([[1.0]] * 9 + [[1.0, 2.0]]),
        "words": pa.array([f"word {row}" for row in range(10)]),
        "cells": pa.array([{"bytes": b"x", "path": "p"}] * 10),
        "gaps": pa.array([None, *range(9)], pa.float64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=4)
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("column", ["pairs", "loose"])
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 4), (3, 5), (4, 8), (9, 10), (5, 5)])
def test_rows_are_those_asked_for_wherever_row_groups_end(path, column, start, stop):
    with ParquetReader(path) as table:
        rows = table.numbers(column, start, stop)
        words = table.values("words", start, stop)
    expected = [[2.0 * row, 2.0 * row + 1] for row in range(start, stop)]
    assert rows.tolist() == expected and words == [f"word {row}" for row in range(start, stop)]


def test_a_missing_number_is_not_a_number(path):
    with ParquetReader(path) as table:
        assert np.isnan(table.numbers("gaps")[0, 0]) and table.numbers("gaps")[1, 0] == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("words", r"a\.parquet: column 'words' holds string, not numbers"),
        ("cells", r"a\.parquet: column 'cells'"),
        ("ragged", r"a\.parquet: column 'ragged' has lists of several lengths"),
        ("other", r"a\.parquet has no column 'other'"),
    ],
)
def test_a_column_that_is_no_matrix_of_numbers_is_refused(path, column, message):
    with ParquetReader(path) as table, pytest.raises(ParquetError, match=message):
        table.numbers(column)


def test_lists_of_several_lengths_are_refused_though_their_numbers_would_fill_the_rows(tmp_path):
    pq.write_table(pa.table({"x": [[1.0], [2.0, 3.0], [4.0, 5.0, 6.0]]}), tmp_path / "b.parquet")
    with ParquetReader(tmp_path / "b.parquet") as table:
        with pytest.raises(ParquetError, match="'x' has lists of several lengths"):
            table.numbers("x")


def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        ParquetReader(tmp_path / "none.parquet")
    (tmp_path / "words.parquet").write_text("words\n" * 100)
    with pytest.raises(
        ParquetError, match=r"words\.parquet is not a readable Parquet file: \S"
    ) as e:
        ParquetReader(tmp_path / "words.parquet")
    assert "\n" not in str(e.value)


def test_what_is_written_in_pieces_is_read_as_one(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    with ParquetWriter(tmp_path / "new/c.parquet") as writer:
        for part in (rows[:2], rows[2:]):
            writer.add({"rows": part, "count": np.arange(len(part)), "names": ["n"] * len(part)})
    with ParquetReader(tmp_path / "new/c.parquet") as table:
        np.testing.assert_array_equal(table.numbers("rows"), rows)
        assert table.numbers("rows").dtype == np.float32
        assert table.values("count") == [0, 1, 0, 1, 2, 3, 4]


def test_the_index_for_pandas_is_named_in_the_file(tmp_path):
    with ParquetWriter(tmp_path / "d.parquet", index="task") as writer:
        writer.add({"task_index": np.zeros(1, np.int64), "task": ["push"]})
    told = pq.read_schema(tmp_path / "d.parquet").pandas_metadata
    assert told["index_columns"] == ["task"]
    assert [column["field_name"] for column in told["columns"]] == ["task"]  # pandas asks for it
