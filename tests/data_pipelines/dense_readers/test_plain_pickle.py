"""Pickles of arrays are read as pickle reads them; nothing else that a pickle can do happens."""

import collections
import os
import pickle
import pickletools

import numpy as np
import pytest

from data_pipelines.dense_readers.plain_pickle import read_plain_pickle
from data_pipelines.importers.base import SourceError


def written(tmp_path, value, protocol=4):
    path = tmp_path / "x.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array([[1, -2]], dtype=">i4"),
        np.float16([[0.5]]),
        np.zeros((0, 3), dtype=np.float32),
    ],
    ids=str,
)
def test_arrays_come_as_they_were(tmp_path, array, protocol):
    if protocol == 5 and not array.flags.writeable:
        pytest.skip("out of band")
    read = read_plain_pickle(written(tmp_path, {"a": array}, protocol))["a"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype and read.shape == array.shape


def test_plain_values_come_as_they_were(tmp_path):
    value = {"name": "a", 3: [1, 2.5, None, (True, b"bytes")], "scalar": np.float32(1.5)}
    read = read_plain_pickle(written(tmp_path, value))
    assert read == value


def test_an_array_of_objects_comes_as_a_list(tmp_path):
    frames = np.empty(2, dtype=object)
    frames[:] = [b"jpeg", b"more"]
    assert read_plain_pickle(written(tmp_path, {"video": frames}))["video"] == [b"jpeg", b"more"]


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def poisons(folder):
    file = str(folder / "poisoned")
    return {
        "a shell": Calls(os.system, f"touch {file}"),
        "open": Calls(open, file, "w"),
        "eval": Calls(eval, f"open({file!r}, 'w')"),
        "getattr": Calls(getattr, os, "system"),
        "numpy's files": Calls(np.save, file, 1),
        "a class": collections.Counter("a"),
        "inside an array": np.array([Calls(open, file, "w")], dtype=object),
        "inside a list": [1, {"x": Calls(os.mkdir, file)}],
    }


@pytest.mark.parametrize("name", poisons(__import__("pathlib").Path("x")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_poison_is_run(tmp_path, name, protocol):
    poison = poisons(tmp_path)[name]
    if name == "getattr":
        poison = b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR."
    path = written(tmp_path, poison, protocol)
    with pytest.raises(SourceError, match=r"x\.pkl: no pickle of plain values: it names .*\."):
        read_plain_pickle(path)
    assert os.listdir(tmp_path) == ["x.pkl"]


def test_the_poison_would_have_worked(tmp_path):
    """Python's own reader runs it: what is tested above can fail."""
    path = written(tmp_path, Calls(os.mkdir, str(tmp_path / "poisoned")))
    with path.open("rb") as file:
        pickle.Unpickler(file).load()
    assert (tmp_path / "poisoned").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",  # a dotted name
        b"cnumpy\nndarray\n(I4\ntR.",  # numpy's class is called
        b"cnumpy\ndtype\n(N}S'name'\nI1\nstb.",  # a class gets a state
        b"cnumpy\nndarray\n.",  # a class is the value
        b"\x80\x02U\x01ax",  # cut short
        b"c_codecs\nencode\n(V\\u1234\nS'utf-8'\ntR.",  # another encoding
        b"",
    ],
)
def test_what_is_made_by_hand_is_refused(tmp_path, code):
    with pytest.raises(SourceError, match="no pickle of plain values"):
        read_plain_pickle(written(tmp_path, code))


def test_types_that_are_not_plain_are_refused(tmp_path):
    for array in (np.zeros(2, dtype="f4,i4"), np.array(["text"]), np.zeros(1, "datetime64[s]")):
        with pytest.raises(SourceError, match="no pickle of plain values"):
            read_plain_pickle(written(tmp_path, array))


def test_bytes_that_are_too_few_for_the_shape_are_refused(tmp_path):
    good = pickle.dumps(np.arange(4, dtype=np.uint8), protocol=2)
    assert any(code.name == "TUPLE1" for code, _, _ in pickletools.genops(good))
    with pytest.raises(SourceError, match="cannot reshape"):
        read_plain_pickle(written(tmp_path, good.replace(b"K\x04\x85", b"K\x05\x85")))


def test_a_list_that_holds_itself_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(SourceError, match="recursion"):
        read_plain_pickle(written(tmp_path, endless))
