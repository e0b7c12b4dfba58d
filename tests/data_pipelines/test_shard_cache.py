import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from data_pipelines.remote_files import RemoteFileError, RetryPolicy
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_index import ShardIndex

QUICK = RetryPolicy(3, 0.01, 0.03, timeout_seconds=3, stall_seconds=0.3)


@pytest.fixture
def served(shard_folder, web_store):
    store = web_store(shard_folder)
    index = ShardIndex.load(store.url)
    store.requests.clear()
    return store, index.shards


def cache_of(folder, shards, *, max_bytes=1 << 30, **settings):
    return ShardCache(folder, max_bytes=max_bytes, shards=shards, retry=QUICK, **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_copy_is_the_shard_and_is_fetched_once(served, shard_folder, tmp_path):
    store, shards = served
    for cache in (cache_of(tmp_path, shards), cache_of(tmp_path, shards)):
        with cache.open(shards[0].path) as file:
            assert file.read() == (shard_folder / "shard-000000.tar").read_bytes()
    assert len(store.requests) == 1


PROGRAM = """
import sys
import time
from pathlib import Path
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_index import ShardIndex
url, folder = sys.argv[1:]
shards = ShardIndex.load(url, verify_files=False).shards
cache = ShardCache(folder, max_bytes=1 << 30, shards=shards)
print(flush=True)
while not Path(folder, "go").exists():
    time.sleep(0.01)
for shard in shards:
    with cache.open(shard.path) as file:
        assert len(file.read()) == shard.num_bytes
"""


def started(url, folder):
    command = [sys.executable, "-c", PROGRAM, url, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_processes_that_ask_at_once_fetch_a_shard_once(served, tmp_path):
    store, _ = served
    children = [started(store.url, tmp_path) for _ in range(3)]
    for child in children:
        child.stdout.readline()
    store.fault_of = lambda request: time.sleep(0.2)  # long enough for all to ask meanwhile
    (tmp_path / "go").touch()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    fetched = [request.name for request in store.requests if request.name.endswith(".tar")]
    assert sorted(fetched) == [f"shard-00000{n}.tar" for n in range(3)]
    assert len(list(tmp_path.glob("*.tar"))) == 3


def test_a_killed_fetch_leaves_no_shard_and_is_done_again(served, tmp_path):
    store, shards = served
    store.fault_of = lambda request: "stall" if request.name.endswith("1.tar") else None
    (tmp_path / "go").touch()
    child = started(store.url, tmp_path)
    for _ in range(600):
        if any(request.name.endswith("1.tar") for request in store.requests):
            break
        time.sleep(0.05)
    child.kill()
    child.wait(10)
    assert [path.name[-16:] for path in tmp_path.glob("*.tar")] == ["shard-000000.tar"]
    store.fault_of = None
    with cache_of(tmp_path, shards).open(shards[1].path) as file:
        assert len(file.read()) == shards[1].num_bytes
    assert not list(tmp_path.glob(".*.part"))


def test_the_longest_unused_shards_make_room(served, tmp_path):
    _, shards = served
    limit = shards[0].num_bytes + shards[1].num_bytes + shards[2].num_bytes - 1
    cache = cache_of(tmp_path, shards, max_bytes=limit)
    for number in (0, 1, 0):
        cache.open(shards[number].path).close()
        time.sleep(0.01)  # the file system's clock has ticks
    held = cache.open(shards[1].path)
    os.utime(cache.path_of(shards[1].path), ns=(0, 0))
    cache.open(shards[2].path).close()
    kept = {path.name[-16:] for path in tmp_path.glob("*.tar")}
    assert kept == {"shard-000000.tar", "shard-000002.tar"}
    assert len(held.read()) == shards[1].num_bytes  # who has it open keeps it
    held.close()


def test_what_killed_processes_left_is_removed(served, tmp_path):
    _, shards = served
    (tmp_path / ".0123-shard-000009.tar.part").write_bytes(b"half")
    cache_of(tmp_path, shards).open(shards[0].path).close()
    assert not list(tmp_path.glob(".*.part"))


def test_a_shard_larger_than_the_limit_is_not_copied(served, tmp_path, caplog):
    store, shards = served
    cache = cache_of(tmp_path, shards, max_bytes=100)
    assert cache.open(shards[0].path) is None and cache.open(shards[0].path) is None
    assert store.requests == [] and len(caplog.messages) == 1
    assert "more than max_bytes=100; it is read from afar" in caplog.text


def test_a_full_disk_leaves_nothing_and_is_said_once(served, tmp_path, caplog):
    """The system refuses to write more than so many bytes, half way through a shard."""
    _, shards = served
    cache, limits = cache_of(tmp_path, shards), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (shards[0].num_bytes // 2, limits[1]))
    try:
        assert cache.open(shards[0].path) is None and cache.open(shards[0].path) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == [] and len(caplog.messages) == 1
    assert "File too large; it is read from afar" in caplog.text


def test_other_bytes_than_the_index_says_get_no_name(served, tmp_path, caplog):
    _, shards = served
    wrong = [replace(shards[0], sha256="0" * 64)]
    assert cache_of(tmp_path, wrong).open(shards[0].path) is None
    assert names(tmp_path) == [] and "SHA-256 differs" in caplog.text


def test_a_copy_of_another_size_is_fetched_again(served, tmp_path):
    store, shards = served
    cache = cache_of(tmp_path, shards)
    cache.open(shards[0].path).close()
    cache.path_of(shards[0].path).write_bytes(b"short")
    with cache.open(shards[0].path) as file:
        assert len(file.read()) == shards[0].num_bytes
    assert len(store.requests) == 2


def test_a_store_that_does_not_answer_is_an_error(served, tmp_path):
    store, shards = served
    store.fault_of = lambda request: "500"
    with pytest.raises(RemoteFileError, match=r"shard-000000\.tar: status 500"):
        cache_of(tmp_path, shards).open(shards[0].path)
    assert names(tmp_path) == []


def test_a_slow_fetch_of_another_process_is_waited_for_once(served, tmp_path):
    store, shards = served
    cache_of(tmp_path, shards).open(shards[0].path).close()  # makes the folder
    slow, other = cache_of(tmp_path, shards), cache_of(tmp_path, shards, lock_seconds=0.2)
    store.fault_of = lambda request: "stall"
    slow._remote.retry = RetryPolicy(1, timeout_seconds=3, stall_seconds=1.5)

    def fetch():
        with pytest.raises(RemoteFileError, match="stalled"):
            slow.open(shards[1].path)

    thread = threading.Thread(target=fetch)
    thread.start()
    while len(store.requests) < 2:
        time.sleep(0.01)
    begin = time.monotonic()
    assert [other.open(shards[1].path) for _ in range(5)] == [None] * 5
    assert time.monotonic() - begin < 1.0
    thread.join(10)


def test_without_an_index_the_size_is_asked_for(served, shard_folder, tmp_path):
    store, _ = served
    cache = ShardCache(tmp_path, max_bytes=1 << 30, retry=QUICK)
    with cache.open(f"{store.url}/shard-000002.tar?signature=x") as file:
        assert file.read() == (shard_folder / "shard-000002.tar").read_bytes()
    assert [name[-16:] for name in names(tmp_path)] == ["shard-000002.tar"]
