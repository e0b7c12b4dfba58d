"""A web server with ten kinds of fault, twenty times each, between a set of shards and its reader.

What is promised: the right bytes or a named error, within a bounded time; never fewer bytes, never
other ones, and nothing secret of a URL in a message. A real server on this machine.
"""

import os
import random
import time
from functools import partial

import pytest

from data_pipelines.packing import pack_videos
from data_pipelines.remote_files import RemoteFileError, RemoteFiles, RetryPolicy
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar
from tests.data_pipelines.conftest import WebStore, _WebAnswer
from tests.reliability.corrupt_videos import whole_videos

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
QUICK = RetryPolicy(3, 0.01, 0.03, timeout_seconds=2, stall_seconds=0.1)
PASSES = {"cut", "cut without length", "stall", "500", "503", "html", "wrong byte"}
STAYS = {"403", "404"}  # asking again is no use
HARMLESS = {"too long"}  # a length that lies: what was asked for has come all the same
FAULTS = sorted(PASSES | STAYS | HARMLESS)
each_fault = pytest.mark.parametrize("fault", FAULTS)
each_count = pytest.mark.parametrize("count", [1, pytest.param(20, marks=LONG)])


class Answer(_WebAnswer):
    """Also has no length to say, and ends when it likes: HTTP/1.0, through some proxies."""

    def send(self, status, body, fault, ranges=None):
        if fault != "cut without length":
            return super().send(status, body, fault, ranges)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True


class FailingStore(WebStore):
    """The server of the other tests, with one fault more."""

    def __init__(self, folder):
        super().__init__(folder)
        self.RequestHandlerClass = Answer

    @property
    def secret_url(self):
        return f"http://me:pass-word@127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("set")
    (base / "videos").mkdir()
    for number, data in enumerate(whole_videos(4)):
        (base / "videos" / f"v{number}.mp4").write_bytes(data)
    pack_videos(base / "videos", base / "shards", decoder="pyav")
    return base / "shards"


@pytest.fixture
def store(folder):
    store = FailingStore(folder)
    yield store
    store.close()


def outcome(store, fault, number, read):
    """Has the fault meet a read, once or always; returns what came, or the error."""
    store.faults, store.fault_of = [], None
    if number % 2:
        store.fault_of = lambda request: fault
    else:
        store.faults = [fault] * (1 + number % 4 // 2)
    begin = time.monotonic()
    try:
        return read()
    except (RemoteFileError, ShardError) as error:
        assert "\n" not in str(error) and f"http://127.0.0.1:{store.server_port}/" in str(error)
        assert "pass-word" not in str(error) and "token" not in str(error)
        return error
    finally:
        assert time.monotonic() - begin < QUICK.timeout_seconds + 2


def judge(result, expected, fault, number):
    """The right bytes or an error: bytes after a fault that passes, an error if it stays."""
    has_failed = isinstance(result, Exception)
    assert has_failed or result == expected
    if fault == "wrong byte" and number % 4 == 2:  # twice: what is read anew is believed once
        return
    stays = fault in STAYS or (fault not in HARMLESS and number % 2 == 1)
    assert has_failed == stays, result


@each_count
@each_fault
def test_a_member_of_a_shard_is_the_packed_one_or_a_named_error(store, folder, fault, count):
    """Seen to fail without the checksum (wrong byte) and without exact reads (cut)."""
    index = ShardIndex.load(store.secret_url, retry=QUICK)
    local = ShardIndex.load(folder)
    for number in range(count):
        place = random.Random(f"{fault} {number}").randrange(index.num_samples)
        expected = ShardReader().read(local.samples[place], "mp4")
        for repeat in (number, number + 1):  # a fault that passes, and one that stays
            reader = ShardReader(retry=QUICK)
            read = partial(reader.read, index.samples[place], "mp4")
            judge(outcome(store, fault, repeat, read), expected, fault, repeat)


@each_count
@each_fault
def test_a_whole_file_is_never_short(store, folder, fault, count):
    """Seen to fail without the refusal of lengths unsaid: a half of a file passed for it."""
    expected = (folder / "index.json").read_bytes()
    url = f"{store.secret_url}/index.json?token=1"
    for number in range(count):
        result = outcome(store, fault, number, lambda: RemoteFiles(QUICK).read_whole(url))
        if fault != "wrong byte":  # which no checksum vouches for here
            assert isinstance(result, Exception) or result == expected
        if number % 2 == 0 and fault not in STAYS | {"cut without length"}:
            assert not isinstance(result, Exception), result


@each_count
@each_fault
def test_a_tar_without_an_index_is_walked_right_or_not_at_all(store, folder, fault, count):
    """Holds without exact reads, too: a header that did not come is damage, not the end."""
    url = f"{store.secret_url}/shard-000000.tar?token=1"
    expected = [sample.key for sample in index_tar(folder / "shard-000000.tar").samples]
    for number in range(count):
        result = outcome(store, fault, number, lambda: index_tar(url, remote=RemoteFiles(QUICK)))
        if isinstance(result, Exception):
            continue
        seen = [sample.key for sample in result.samples]
        assert seen == expected or (fault == "wrong byte" and result.damaged)
