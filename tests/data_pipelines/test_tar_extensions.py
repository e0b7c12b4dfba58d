import io
import tarfile

import pytest

from data_pipelines.tar_extensions import Extension, ExtensionError, extended, pax_records

NOTHING = Extension()


def written_by_python(**values):
    """The records that tarfile writes for these values."""
    info = tarfile.TarInfo("a")
    info.pax_headers = values
    data = info.tobuf(tarfile.PAX_FORMAT)
    header = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
    return data[512 : 512 + header.size]


def test_records_are_read_as_they_were_written():
    values = {"path": "sub/\u00e4 b\n=c.mp4", "mtime": "1700000000.25", "k" * 300: "v" * 2000}
    assert pax_records(written_by_python(**values)) == {
        key: value.encode() for key, value in values.items()
    }
    assert pax_records(b"") == {}


def test_a_path_and_a_size_replace_those_of_the_header_and_times_do_not():
    assert extended(NOTHING, b"x", written_by_python(mtime="1.5", uname="me")) == NOTHING
    said = extended(NOTHING, b"x", written_by_python(path="a/b.mp4", size="12"))
    assert said == Extension(name=b"a/b.mp4", size=12)


def test_names_of_gnu_end_at_a_zero_and_links_are_of_no_interest():
    assert extended(NOTHING, b"L", b"long/name.mp4\0") == Extension(name=b"long/name.mp4")
    assert extended(NOTHING, b"K", b"/etc/passwd\0") == NOTHING


def test_what_comes_later_counts_and_the_rest_stays():
    said = extended(Extension(name=b"a", size=1), b"x", written_by_python(size="2"))
    assert said == Extension(name=b"a", size=2)
    assert extended(said, b"L", b"b\0") == Extension(name=b"b", size=2)


@pytest.mark.parametrize("key", ["path", "size", "GNU.sparse.map"])
def test_a_global_header_may_say_what_matters_not_and_nothing_else(key):
    assert extended(NOTHING, b"g", written_by_python(comment="of git")) == NOTHING
    with pytest.raises(ExtensionError, match=f"a global PAX header gives all members one '{key}'"):
        extended(NOTHING, b"g", written_by_python(**{key: "1"}))


def test_a_sparse_file_is_told():
    assert extended(NOTHING, b"x", written_by_python(**{"GNU.sparse.major": "1"})).is_sparse


def test_every_cut_of_a_record_is_noticed():
    data = written_by_python(path="a.mp4", comment="c" * 80)
    ends = [len(written_by_python(path="a.mp4")), len(data)]
    for size in range(1, len(data)):
        if size not in ends:
            with pytest.raises(ExtensionError, match=r"^damaged: "):
                pax_records(data[:size])


def test_python_reads_what_we_read(tmp_path):
    """The slow reference: names and sizes of a tar with a long name and a time for each file."""
    names = ["k" * 150 + ".mp4", "\u00fc.mp4", "plain.mp4"]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 3, 1.5
            tar.addfile(info, io.BytesIO(b"abc"))
    data, at, seen = (tmp_path / "x.tar").read_bytes(), 0, []
    while data[at + 257 : at + 262] == b"ustar":
        header = tarfile.TarInfo.frombuf(data[at : at + 512], "utf-8", "strict")
        content = data[at + 512 : at + 512 + header.size]
        if header.type == b"x":
            said = extended(NOTHING, b"x", content)
        else:
            seen.append(said.name.decode() if said.name else header.name)
        at += 512 + -(-header.size // 512) * 512
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert seen == tar.getnames() == names
