import io
import itertools
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.plan import EpochPlan, ResumableBatchSampler
from data_pipelines.remote_files import RetryPolicy
from data_pipelines.samples import ACTIONS, STATES, Member, Sample
from data_pipelines.shard_cache import ShardCache
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader, _with_small_neighbours, read_member
from data_pipelines.skips import SkipCounter, TooManySkippedError
from data_pipelines.streams import CountingLoader
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import ResizeWholeFrame

QUICK = RetryPolicy(
    attempts=3,
    first_delay_seconds=0.01,
    max_delay_seconds=0.03,
    timeout_seconds=3,
    stall_seconds=0.2,
)
PATIENT = RetryPolicy(8, 0.01, 0.03, timeout_seconds=10, stall_seconds=2)


def test_members_are_the_packed_bytes(shard_folder, video_folder):
    reader = ShardReader(max_open_files=2)
    for sample in ShardIndex.load(shard_folder).samples:
        assert reader.read(sample, "mp4") == (video_folder / sample.source).read_bytes()
    assert len(reader._files) == 2


def test_a_reader_may_be_sent_to_another_process(shard_folder):
    sample = ShardIndex.load(shard_folder).samples[0]
    reader = ShardReader()
    before = reader.read(sample, "mp4")
    assert pickle.loads(pickle.dumps(reader)).read(sample, "mp4") == before


def test_changed_bytes_are_refused_before_a_decoder_sees_them(tmp_path, shard_folder):
    sample = ShardIndex.load(shard_folder).samples[0]
    data = bytearray(open(sample.shard, "rb").read())
    data[sample.members["mp4"].offset + 200] ^= 1
    (tmp_path / "shard.tar").write_bytes(data)
    moved = Sample(sample.key, str(tmp_path / "shard.tar"), sample.members)
    with pytest.raises(ShardError, match=r"shard\.tar: 'even/video00\.mp4' is not what was packed"):
        ShardReader().read(moved, "mp4")


def test_a_shard_that_ends_early_is_refused(tmp_path):
    (tmp_path / "short.tar").write_bytes(b"x" * 100)
    with pytest.raises(ShardError, match=r"short\.tar ends early: 40 of 50 bytes at byte 60"):
        read_member(tmp_path / "short.tar", 60, 50)
    assert read_member(tmp_path / "short.tar", 60, 40) == b"x" * 40


@pytest.mark.parametrize("content", ["objects", "words"])
def test_an_array_is_never_unpickled(tmp_path, content):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    data = buffer.getvalue() if content == "objects" else b"words"
    (tmp_path / "s.tar").write_bytes(data)
    sample = Sample("k", str(tmp_path / "s.tar"), {"states.npy": Member(0, len(data))})
    with pytest.raises(ShardError, match=r"'k\.states\.npy': "):
        ShardReader().read_array(sample, "states.npy")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_zip_file_is_no_array(tmp_path, is_damaged):
    """Seen to fail without the look at what NumPy made of it: it was handed on as an array."""
    buffer = io.BytesIO()
    np.savez(buffer, states=np.zeros(3))
    data = buffer.getvalue()[: 60 if is_damaged else None]
    (tmp_path / "s.tar").write_bytes(data)
    sample = Sample("k", str(tmp_path / "s.tar"), {"states.npy": Member(0, len(data))})
    with pytest.raises(ShardError, match=r"'k\.states\.npy': no array, but a (damaged )?zip file"):
        ShardReader().read_array(sample, "states.npy")


# From afar.


@pytest.fixture
def copied(shard_folder, tmp_path):
    return Path(shutil.copytree(shard_folder, tmp_path / "shards"))


def members(index, reader):
    return {
        (sample.key, extension): reader.read(sample, extension)
        for sample in index.samples
        for extension in sample.members
    }


def test_remote_members_are_those_of_the_local_shards(shard_folder, web_store):
    store = web_store(shard_folder)
    remote, local = ShardIndex.load(store.url), ShardIndex.load(shard_folder)
    assert remote.fingerprint == local.fingerprint
    assert members(remote, ShardReader(retry=QUICK)) == members(local, ShardReader())


def test_a_sample_of_several_members_is_one_request(trajectory_folder, web_store, monkeypatch):
    store = web_store(trajectory_folder)
    samples, reader = ShardIndex.load(store.url).samples, ShardReader(retry=QUICK)
    store.requests.clear()
    for sample in samples:
        for extension in (STATES, ACTIONS, "mp4", "json"):
            reader.read(sample, extension)
    assert len(store.requests) == len(samples)
    monkeypatch.setattr("data_pipelines.shard_reader.NEIGHBOUR_BYTES", 0)
    store.requests.clear()
    reader.prefetch(samples[0], (STATES, ACTIONS, "mp4"))
    for extension in (STATES, ACTIONS, "mp4"):
        reader.read(samples[0], extension)
    assert len(store.requests) == 1
    reader.read(samples[1], "json")
    assert store.requests[1].last - store.requests[1].first + 1 == samples[1].members["json"].size


def test_a_large_neighbour_is_not_read_along(monkeypatch):
    places = {"json": Member(512, 100), "mp4": Member(2048, 5 << 20), STATES: Member(6 << 20, 80)}
    sample = Sample("k", "memory://x.tar", places)
    assert _with_small_neighbours(sample, places["json"]) == (512, 612)
    assert _with_small_neighbours(sample, places["mp4"]) == (512, (6 << 20) + 80)


@pytest.mark.parametrize(
    "fault", ["500", "503", "cut", "stall", "html", "ignores range", "too long", "wrong byte"]
)
def test_a_fault_on_the_way_leaves_the_packed_bytes(shard_folder, web_store, fault):
    store = web_store(shard_folder)
    sample = ShardIndex.load(store.url).samples[7]
    local = ShardReader().read(ShardIndex.load(shard_folder).samples[7], "mp4")
    store.faults = [fault]
    assert ShardReader(retry=QUICK).read(sample, "mp4") == local


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", r"status 500 \(Internal Server Error\) \(given up after 3 attempts\)"),
        ("404", r"status 404 \(Not Found\)"),
        ("403", r"status 403 \(Forbidden\)"),
        ("html", "an HTML page came instead of data"),
        ("cut", "given up after 3 attempts"),
        ("wrong byte", r"\.mp4' is not what was packed \(CRC-32 differs"),
    ],
)
def test_a_fault_that_stays_is_a_shard_error_without_secrets(shard_folder, web_store, fault, said):
    store = web_store(shard_folder)
    secret = f"http://me:secret@127.0.0.1:{store.server_port}?token=secret"
    sample = ShardIndex.load(secret).samples[0]
    assert "secret" in sample.shard
    store.fault_of = lambda request: fault
    with pytest.raises(ShardError, match=said) as caught:
        ShardReader(retry=QUICK).read(sample, "mp4")
    place = f"http://127.0.0.1:{store.server_port}/shard-000000.tar: "
    assert str(caught.value).startswith(place) and "secret" not in str(caught.value)


def test_a_shard_that_failed_is_tried_once_until_it_answers(shard_folder, web_store, caplog):
    store = web_store(shard_folder)
    samples, reader = ShardIndex.load(store.url).samples, ShardReader(retry=QUICK)
    store.requests.clear()
    store.fault_of = lambda request: "500"
    for _ in range(4):
        with pytest.raises(ShardError, match="status 500"):
            reader.read(samples[0], "mp4")
    assert len(store.requests) == QUICK.attempts + 3
    assert len(caplog.messages) == 1  # one line for the shard
    store.fault_of = None
    assert reader.read(samples[0], "mp4")
    store.faults = ["500"]
    assert reader.read(samples[1], "mp4")  # and patient again


def test_a_remote_reader_may_be_sent_to_another_process(shard_folder, web_store):
    sample = ShardIndex.load(web_store(shard_folder).url).samples[0]
    reader = ShardReader(retry=QUICK)
    before = reader.read(sample, "mp4")
    again = pickle.loads(pickle.dumps(reader))
    assert again.retry == QUICK and again.read(sample, "mp4") == before


# Training from afar.


def clips(index, retry):
    dataset = ClipDataset(index, clip_length_frames=6, transform=ResizeWholeFrame(32))
    dataset.reader = ShardReader(retry=retry)
    return dataset


def loader(dataset, *, skips, steps=8, num_workers=0):
    sampler = ResumableBatchSampler(
        EpochPlan([len(dataset)], seed=0), slots_per_batch=3, steps_per_epoch=steps
    )
    return CountingLoader(dataset, sampler, skips=skips, num_workers=num_workers)


def every_tenth(store):
    """Fails on the third request and on every tenth after it."""
    store.num_bad, numbers = 0, itertools.count(8)

    def fault(request):
        is_bad = next(numbers) % 10 == 0
        store.num_bad += is_bad
        return "500" if is_bad else None

    return fault


@pytest.mark.parametrize(
    ("num_workers", "start"),
    [(0, None), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)],
)
def test_training_over_http_that_fails_at_times_gives_the_local_batches(
    shard_folder, web_store, num_workers, start
):
    store = web_store(shard_folder)
    remote_index = ShardIndex.load(store.url, retry=QUICK)
    local_skips, skips = SkipCounter(0.0), SkipCounter(0.0)
    dataset = clips(remote_index, PATIENT)
    store.fault_of = every_tenth(store)
    dataset.reader.read(remote_index.samples[0], "mp4")  # the parent has read before it forks
    remote = loader(dataset, skips=skips, num_workers=num_workers)
    if start is not None:
        remote.multiprocessing_context = start
    local = loader(clips(ShardIndex.load(shard_folder), PATIENT), skips=local_skips)
    for mine, theirs in zip(remote, local, strict=True):
        assert mine.keys == theirs.keys and torch.equal(mine.video, theirs.video)
    assert skips.num_skipped == 0 and store.num_bad > 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_of_a_shard_that_is_gone_are_counted_and_named(
    shard_folder, web_store, num_workers
):
    store, skips = web_store(shard_folder), SkipCounter(1.0)
    dataset = clips(ShardIndex.load(store.url), QUICK)
    gone = {sample.key for sample in dataset.samples if "shard-000001" in sample.shard}
    store.fault_of = lambda request: "404" if "shard-000001" in request.name else None
    batches = list(loader(dataset, skips=skips, num_workers=num_workers))
    used = {key for batch in batches for key in batch.keys}
    assert set(skips.keys) == gone and not gone & used and sum(len(b.keys) for b in batches) == 24
    assert set(skips.reasons) == {f"{store.url}/shard-000001.tar: status 404 (Not Found)"}


def test_the_budget_of_skips_stops_a_run_whose_shard_is_gone(shard_folder, web_store):
    store, skips = web_store(shard_folder), SkipCounter(0.1, grace_samples=10)
    dataset = clips(ShardIndex.load(store.url), QUICK)
    store.fault_of = lambda request: "404" if "shard-000001" in request.name else None
    with pytest.raises(TooManySkippedError, match=r"shard-000001\.tar: status 404"):
        list(loader(dataset, skips=skips, steps=40))


# With copies on the disk.


def test_a_copied_shard_is_read_from_the_disk(copied, web_store, tmp_path):
    store = web_store(copied)
    index = ShardIndex.load(store.url)
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 30, shards=index.shards, retry=QUICK)
    reader = ShardReader(retry=QUICK, cache=cache)
    store.requests.clear()
    assert members(index, reader) == members(ShardIndex.load(copied), ShardReader())
    assert len(store.requests) == 3  # whole shards, once each
    store.close()
    assert members(index, pickle.loads(pickle.dumps(reader)))


def test_a_copy_with_a_rotten_byte_is_fetched_again(copied, web_store, tmp_path):
    store = web_store(copied)
    index = ShardIndex.load(store.url)
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 30, shards=index.shards, retry=QUICK)
    reader, sample = ShardReader(retry=QUICK, cache=cache), index.samples[0]
    good = reader.read(sample, "mp4")
    copy = cache.path_of(sample.shard)
    data = bytearray(copy.read_bytes())
    data[sample.members["mp4"].offset] ^= 1
    copy.write_bytes(data)
    reader = ShardReader(retry=QUICK, cache=cache)
    assert reader.read(sample, "mp4") == good  # from afar
    assert not copy.exists()
    assert reader.read(sample, "mp4") == good and copy.exists()
