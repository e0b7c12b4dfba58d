"""Bad shards, indexes and places: rows 23 to 46 of the list of bad inputs."""

import gzip
import json
import os

import pytest

from tests.reliability.bad_inputs import Inputs, Row, check, fit, params
from tests.reliability.corrupt_shards import headers_of, members_of, tar_of

HTML = b"<html><body>403 Forbidden</body></html>" * 20


def checked(change):
    """A row's arguments: `jepa data check` of one tar without an index, its bytes changed."""

    def arguments(inputs: Inputs) -> list:
        whole = next(inputs.shards.glob("*.tar")).read_bytes()
        return ["data", "check", inputs.write("some.tar", change(whole))]

    return arguments


def after(change, *verb):
    """`jepa data check`, or another verb, of a set of shards after a change of its folder."""

    def arguments(inputs: Inputs) -> list:
        folder = inputs.copy_of_shards()
        change(folder)
        return [*(verb or ("data", "check")), folder]

    return arguments


def trained(change):
    """A training on a set of shards after a change of its folder."""

    def arguments(inputs: Inputs) -> list:
        folder = inputs.copy_of_shards()
        change(folder)
        return fit("--data.shards", folder)

    return arguments


def place(url: str):
    return lambda inputs: fit("--data.shards", url)


def index_with(**changes):
    """A change of a folder: keys of its index get other values."""

    def change(folder):
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**index, **changes}))

    return change


def index_text(text: str):
    return lambda folder: (folder / "index.json").write_text(text)


def shard_bytes(change):
    def changed(folder):
        path = folder / "shard-000000.tar"
        path.write_bytes(change(path.read_bytes()))

    return changed


def in_index(change):
    """A change of the first shard's entry of the index."""

    def changed(folder):
        index = json.loads((folder / "index.json").read_text())
        change(index["shards"])
        (folder / "index.json").write_text(json.dumps(index))

    return changed


def header_with(at: int, value: bytes, *, mends_checksum: bool = True):
    """Bytes of the first header of a tar replaced, and its checksum mended."""

    def change(data: bytes) -> bytes:
        start, _ = headers_of(data)[0]
        header = bytearray(data[start : start + 512])
        header[at : at + len(value)] = value
        if mends_checksum:
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
        return data[:start] + bytes(header) + data[start + 512 :]

    return change


def renamed(change):
    """The members of a tar with other names, or other contents."""
    return lambda data: tar_of(change(members_of(data)))


def with_name(name: str):
    return renamed(lambda members: [(name, members[0][1]), *members[1:]])


def fifo(inputs: Inputs) -> list:
    os.mkfifo(inputs.here / "some.tar")
    return ["data", "check", inputs.here / "some.tar"]


ROWS = [
    Row(23, "a pattern without files", place("nowhere-{000000..000003}.tar"), "no shard folder or"),
    Row(23, "a folder that is not there", place("nowhere"), "no shard folder or .tar at nowhere"),
    Row(24, "a tar of no bytes", checked(lambda data: b""), r"some\.tar: truncated: no end mark"),
    Row(25, "a tar of zeros", checked(lambda data: bytes(10240)), r"no sample in .*some\.tar"),
    Row(26, "a page of a web server", checked(lambda data: HTML), r"some\.tar: .*not a tar header"),
    Row(
        27,
        "a tar that is compressed",
        checked(gzip.compress),
        r"some\.tar: .*compressed\? unpack it",
    ),
    Row(
        27,
        "a zip",
        checked(lambda data: b"PK\x03\x04" + bytes(2000)),
        r"some\.tar: .*not a tar header",
    ),
    Row(
        28,
        "a tar cut in its data",
        checked(lambda data: data[: headers_of(data)[0][0] + 700]),
        r"some\.tar: truncated",
    ),
    Row(28, "a tar cut in a header", checked(lambda data: data[:200]), r"some\.tar: truncated"),
    Row(
        28,
        "an indexed shard cut",
        after(shard_bytes(lambda data: data[:9000])),
        r"shard-000000\.tar ends early: .* bytes at byte",
        1,
    ),
    Row(
        29,
        "a wrong checksum",
        checked(header_with(0, b"zz", mends_checksum=False)),
        r"some\.tar: .*header at byte 0: damaged, its checksum differs",
        1,
    ),
    Row(
        30,
        "zeros in the middle",
        checked(lambda data: data[:512] + bytes(1024) + data[1536:]),
        r"some\.tar: .*data after the end mark, before byte 2048",
        1,
    ),
    Row(
        31,
        "a member of a terabyte",
        checked(header_with(124, b"\x80" + bytes(5) + (1 << 40).to_bytes(6, "big"))),
        r"header at byte 0: damaged, .* is not an octal number",
        1,
    ),
    Row(
        31,
        "a negative size",
        checked(header_with(124, b"\xff" * 12)),
        r"header at byte 0: damaged, .* is not an octal number",
        1,
    ),
    Row(
        31,
        "a size past the end",
        checked(header_with(124, b"77777777777\0")),
        r"claims 8589934591 bytes, the shard ends after",
        1,
    ),
    Row(
        32,
        "a name that is a path out",
        after(shard_bytes(with_name("../../x.mp4"))),
        r"changed since it was packed",
        1,
    ),
    Row(
        33,
        "a link",
        checked(header_with(156, b"2")),
        r"member .* of type b.2. is not allowed, only plain files",
        1,
    ),
    Row(
        33,
        "a device",
        checked(header_with(156, b"3")),
        r"member .* of type b.3. is not allowed, only plain files",
        1,
    ),
    Row(
        34,
        "a member that is there twice",
        checked(renamed(lambda m: [*m[:2], *m[:2], *m[2:]])),
        r"member .* comes twice",
        1,
    ),
    Row(
        35,
        "keys that take turns",
        checked(renamed(lambda m: [m[0], m[2], m[1], m[3]])),
        "reappears at byte",
    ),
    Row(
        36,
        "a sample without a video",
        checked(renamed(lambda m: [(n, d) for n, d in m if n.endswith("json")])),
        "has no video",
    ),
    Row(
        37,
        "a pickle as a member",
        checked(renamed(lambda m: [(n.replace("mp4", "pkl"), d) for n, d in m])),
        "has no video",
    ),
    Row(38, "an index that is no JSON", after(index_text("{")), r"index\.json is not JSON"),
    Row(38, "an index that is a list", after(index_text("[]")), "must be a JSON object, got list"),
    Row(
        38,
        "an index of a later version",
        after(index_with(version=99)),
        "version 99, this program reads",
    ),
    Row(38, "an index without shards", after(index_with(shards=None)), r"index\.json is damaged"),
    Row(38, "an index of something else", after(index_with(format="flowers")), "format 'flowers'"),
    Row(
        39,
        "a shard that has changed",
        after(shard_bytes(lambda d: d[:-1024] + b"x" * 1024)),
        r"data after the end mark, before byte",
        1,
    ),
    Row(
        39,
        "an index of fewer bytes",
        trained(in_index(lambda s: s[0].update(num_bytes=10))),
        "changed: .* bytes, the index says 10; pack again",
    ),
    Row(
        40,
        "fewer samples than a batch",
        lambda i: fit("--data.shards", i.shards, "--data.batch_size", 400),
        "global batch 400",
    ),
    Row(
        41,
        "a shard that is listed twice",
        trained(in_index(lambda s: s.append(s[0]))),
        "is listed twice|is twice in .*shard-000000.tar",  # its keys are, and are met first
    ),
    Row(
        41,
        "a shard out of the folder",
        trained(in_index(lambda s: s[0].update(name="../../etc/passwd"))),
        "is a path",
    ),
    Row(42, "a place that starts a program", place("pipe:cat x.tar"), "pipe:cat"),
    Row(42, "a scheme that is not read", place("ftp://host/x.tar"), "'ftp://' is not read here"),
    Row(
        42, "a chain of file systems", place("simplecache::http://127.0.0.1:9/x.tar"), "simplecache"
    ),
    Row(42, "a file of the system", place("file:///etc/passwd"), "/etc/passwd"),
    Row(
        43,
        "a server that is not there",
        place("http://127.0.0.1:9/x.tar?token=secret"),
        "127.0.0.1:9/index.json: .*given up after",
    ),
    Row(
        43,
        "a host that is not there",
        place("http://no-such-host.invalid/x.tar"),
        "no-such-host.invalid.*given up after",
    ),
    Row(
        46,
        "a folder named as a tar",
        lambda i: [i.write("some.tar/x", ""), "data", "check", i.here / "some.tar"][1:],
        "holds no .tar and no index.json; make one",
    ),
    Row(46, "a pipe named as a tar", fifo, r"no shard folder or .tar at .*some\.tar"),
]
QUICK = (24, 25, 26, 27, 28, 31, 33, 34, 35, 36, 37, 38)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_bad_shard_is_one_clear_line(row, inputs, capfd):
    check(row, inputs, capfd)
