"""The file that grows: what is read back, and what is left after an error."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jepa.feature_file import RowFile, size_in_words, whole_file


def test_a_row_file_reads_back_whatever_the_order_of_writing(tmp_path):
    wanted = {
        "half": np.arange(6, dtype=np.float16).reshape(3, 2),
        "number": np.arange(4, dtype=np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    tensors = {name: (array.dtype, array.shape) for name, array in wanted.items()}
    with whole_file(tmp_path / "rows.safetensors") as file:
        rows = RowFile(file, tensors, {"word": "Grüße"})
        rows.append("half", wanted["half"][:1])
        rows.append("number", wanted["number"])
        rows.append("half", wanted["half"][1:])
        rows.finish()
    read = load_file(tmp_path / "rows.safetensors")
    assert read.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    with safe_open(tmp_path / "rows.safetensors", "np") as file:
        assert file.metadata() == {"word": "Grüße"}


def test_a_row_file_that_is_not_full_or_gets_other_rows_is_a_fault_of_ours(tmp_path):
    with pytest.raises(RuntimeError, match="a not filled"):
        with whole_file(tmp_path / "rows.safetensors") as file:
            rows = RowFile(file, {"a": (np.dtype(np.float32), (3, 2))}, {})
            rows.append("a", np.zeros((2, 2), np.float32))
            with pytest.raises(RuntimeError, match=r"rows are float64 \(2,\), not float32 \(2,\)"):
                rows.append("a", np.zeros((1, 2)))
            rows.finish()
    assert list(tmp_path.glob("*rows*")) == []


def test_a_file_takes_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "rows.safetensors"
    path.write_text("from before")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "from before"
    assert path.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_sizes_are_told_in_decimal_units():
    assert size_in_words(1500) == "1.5 kB"
    assert size_in_words(2_345_600_000) == "2,345.6 MB"
