"""Processes that fill one folder with copies of remote shards at once, of which one is killed.

What is promised: who lives reads every shard's very bytes, each shard is fetched once (but for the
one that the killed process was at), and nothing half-done stays.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import closing

import pytest

from data_pipelines.packing import pack_videos
from tests.data_pipelines.conftest import WebStore
from tests.reliability.corrupt_videos import whole_videos

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
PROGRAM = """
import hashlib, json, random, sys, time
from pathlib import Path
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_index import ShardIndex
url, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
shards = list(ShardIndex.load(url, verify_files=False).shards)
cache = ShardCache(folder, max_bytes=1 << 30, shards=shards)
random.Random(seed).shuffle(shards)
print("ready", flush=True)
while not (folder / "go").exists():
    time.sleep(0.01)
read = {}
for shard in shards:
    with cache.open(shard.path) as file:
        read[shard.path.rpartition("/")[2]] = hashlib.sha256(file.read()).hexdigest()
print(json.dumps(read))
"""


@pytest.fixture
def served(tmp_path, num_shards):
    """A web server of so many shards."""
    with closing(WebStore(packed(tmp_path, num_shards=num_shards))) as store:
        yield store


def packed(folder, *, num_shards):
    videos = folder / "videos"
    videos.mkdir()
    wholes = whole_videos()
    for number in range(num_shards):
        (videos / f"v{number:03d}.mp4").write_bytes(wholes[number % len(wholes)])
    pack_videos(videos, folder / "set", decoder="pyav", samples_per_shard=1)
    return folder / "set"


def started(url, folder, seed):
    command = [sys.executable, "-c", PROGRAM, url, str(folder), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("num_processes", "num_shards"), [(3, 6), pytest.param(8, 20, marks=LONG)])
def test_who_lives_reads_every_shard_fetched_once_and_nothing_half_done_stays(
    tmp_path, served, num_processes, num_shards
):
    """Seen to fail without the lock: they removed each other's files, and all but one died."""
    folder, cache = tmp_path / "set", tmp_path / "cache"
    cache.mkdir()
    children = [started(served.url, cache, seed) for seed in range(num_processes)]
    assert all(child.stdout.readline() == "ready\n" for child in children)
    served.requests.clear()
    served.fault_of = lambda _: time.sleep(0.05)  # long enough for others to ask meanwhile
    (cache / "go").touch()
    deadline = time.monotonic() + 60
    while sum(request.name.endswith(".tar") for request in served.requests) < num_shards // 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children[0].kill()
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [-9] + [0] * (num_processes - 1)
    whole = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tar")}
    assert [json.loads(text) for text in said[1:]] == [whole] * (num_processes - 1)
    fetched = [request.name for request in served.requests if request.name.endswith(".tar")]
    assert set(fetched) == set(whole) and len(fetched) <= num_shards + 1
    assert len(list(cache.glob("*.tar"))) == num_shards and not list(cache.glob(".*.part"))
