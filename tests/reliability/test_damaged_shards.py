"""Five hundred damaged tars of 13 classes, alone and in packed sets; 2,000 flipped bits in headers.

What is promised: no crash, no hang, no silent loss. In a tar of anybody, what is whole is used and
comes with its very bytes, and what is lost is named, by its key or by the place where it was. In a
packed set, the samples seen and the samples refused are those of the index, whatever became of the
tars.
"""

import io
import json
import os
import random
import shutil
import tarfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from data_pipelines import tar_index
from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.packing import pack_videos
from data_pipelines.plan import EvaluationBatchSampler
from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader
from data_pipelines.tar_headers import (
    ShardError,
    TarFault,
    TarMember,
    split_name,
    survey_open_tar,
)
from data_pipelines.tar_index import index_tar
from data_pipelines.transforms import ResizeWholeFrame
from tests.reliability.corrupt_shards import KINDS, flipped_headers, headers_of, members_of, tar_of
from tests.reliability.corrupt_videos import NUM_FRAMES, whole_videos

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
SECONDS_OF_ONE = 1.0  # to index one small tar, however it is damaged
NUM_SAMPLES = 8
ABOUT = (
    b'{"num_frames": %d, "frames_per_second": 10, "duration_seconds": 2, "height": 64, "width": 64}'
)


@cache
def whole():
    """A tar of eight samples, each of a JSON and a video."""
    members = []
    for number, video in enumerate(whole_videos(NUM_SAMPLES)):
        members += [(f"k{number}.json", ABOUT % NUM_FRAMES), (f"k{number}.mp4", video)]
    return tar_of(members)


def damaged(kind, number):
    return KINDS[kind](whole(), random.Random(f"{kind} {number}"))


def indexed_in_time(path):
    """Returns key -> bytes of the video, and name or place -> why of what is lost."""
    begin = time.monotonic()
    try:
        shard = index_tar(path)
    except ShardError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return {}, {path.name: str(error)}
    finally:
        assert time.monotonic() - begin < SECONDS_OF_ONE
    reader = ShardReader()
    data = {sample.key: reader.read(sample, "mp4") for sample in shard.samples}
    return data, {lost.path: lost.reason for lost in shard.damaged}


def assert_the_rest_is_whole_and_the_loss_is_named(path, kind):
    expected = {split_name(n)[0]: d for n, d in members_of(whole()) if n.endswith("mp4")}
    seen, lost = indexed_in_time(path)
    assert all(expected[key] == data for key, data in seen.items()), kind
    missing = expected.keys() - seen.keys()
    assert lost or not missing, kind
    assert all(why.strip() and "\n" not in why for why in lost.values()), kind
    unnamed = missing - lost.keys()
    if unnamed and path.name not in lost:  # then the walk said which bytes it could not read
        unread = unread_places(path)
        assert all(is_within(member_places()[key], unread) for key in unnamed), (kind, lost)
    return seen, lost


def unread_places(path):
    """The bytes of a damaged tar that the walk left out; what is cut off lies in none."""
    with path.open("rb") as file:
        found = list(survey_open_tar(file, "x"))
    faults = [(fault.offset, fault.end) for fault in found if isinstance(fault, TarFault)]
    num_bytes = path.stat().st_size
    return [*faults, (num_bytes, 1 << 62)] if num_bytes < len(whole()) else faults


@cache
def member_places():
    """Where the headers of each sample's files are in the whole tar."""
    starts = [start for start, _ in headers_of(whole())]
    return {f"k{number}": starts[2 * number : 2 * number + 2] for number in range(NUM_SAMPLES)}


def is_within(starts, places):
    return all(any(begin <= start < end for begin, end in places) for start in starts)


@pytest.mark.parametrize("count", [2, pytest.param(42, marks=LONG)])  # of each kind: 546
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_tar_gives_what_is_whole_and_names_what_is_lost(tmp_path, kind, count):
    """Seen to fail with Python's tarfile as the walk: samples were lost, and none was named."""
    for number in range(count):
        path = tmp_path / f"tar-{number}.tar"
        path.write_bytes(damaged(kind, number))
        _, lost = assert_the_rest_is_whole_and_the_loss_is_named(path, kind)
        assert lost or kind == "header flip"  # of bits that say nothing, such as a header's padding


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=LONG)])
def test_no_flipped_bit_of_a_header_loses_a_sample_in_silence(tmp_path, count):
    """Seen to fail with Python's tarfile as the walk: samples behind the bit were lost unnamed."""
    num_noticed, path = 0, tmp_path / "flipped.tar"
    for data in flipped_headers(whole(), count):
        path.write_bytes(data)
        seen, lost = assert_the_rest_is_whole_and_the_loss_is_named(path, "header flip")
        num_noticed += bool(lost)
        assert len(seen) >= NUM_SAMPLES - 1
    assert num_noticed > 0.97 * count


def walk_of_tarfile(file, name):
    """What a reader built on Python's tarfile sees: a bad header ends the file."""
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        for info in tar:
            yield TarMember(info.name, info.offset_data, info.size)


def test_the_walk_of_pythons_tarfile_loses_samples_in_silence(tmp_path, monkeypatch):
    """Why there is a walk of our own: this is the guard off, and the fault it keeps away."""
    start = headers_of(whole())[8][0]  # of k4.json
    path = tmp_path / "flipped.tar"
    path.write_bytes(whole()[:start] + b"?" + whole()[start + 1 :])
    seen, lost = indexed_in_time(path)
    assert (len(seen), len(lost)) == (7, 1)
    monkeypatch.setattr(tar_index, "survey_open_tar", walk_of_tarfile)
    seen, lost = indexed_in_time(path)
    assert (sorted(seen), lost) == (["k0", "k1", "k2", "k3"], {})


# Packed sets, whose index says what was there.


@pytest.fixture
def damaged_set(tmp_path):
    """Returns a maker: a packed set of which each shard was damaged in another way, and one not."""

    def make(count):
        videos = tmp_path / "videos"
        videos.mkdir()
        wholes = whole_videos()
        num_shards = len(KINDS) * count + 1
        for number in range(4 * num_shards):
            (videos / f"v{number:05d}.mp4").write_bytes(wholes[number % len(wholes)])
        pack_videos(videos, tmp_path / "set", decoder="pyav", samples_per_shard=4)
        shards = sorted((tmp_path / "set").glob("*.tar"))
        assert len(shards) == num_shards
        for number, shard in enumerate(shards[1:]):
            kind = list(KINDS)[number % len(KINDS)]
            shard.write_bytes(KINDS[kind](shard.read_bytes(), random.Random(number)))
        shutil.rmtree(videos)
        return tmp_path / "set"

    return make


def remove_checksums(index_file):
    index = json.loads(index_file.read_text())
    for shard in index["shards"]:
        for sample in shard["samples"]:
            sample["members"] = {
                name: [offset, size, None] for name, (offset, size, _) in sample["members"].items()
            }
    index_file.write_text(json.dumps(index))


def read_once(index, *, replace_unusable):
    """Returns the keys of the rows that are valid, and what was skipped."""
    dataset = ClipDataset(
        index,
        clip_length_frames=NUM_FRAMES,
        transform=ResizeWholeFrame(16),
        decoder="pyav",
        replace_unusable=replace_unusable,
    )
    skips, sampler = SkipCounter(1.0), EvaluationBatchSampler(index.num_samples, batch_size=8)
    loader = CountingLoader(dataset, sampler, skips=skips)
    return [key for batch in loader for key in batch.only_valid().keys], skips


@pytest.mark.parametrize("count", [1, pytest.param(39, marks=LONG)])  # of each kind: 507
@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "without"])
def test_of_a_packed_set_each_sample_is_seen_or_refused_and_check_names_each_shard(
    damaged_set, count, checksums
):
    """Seen to fail without lengths of reads. Sets of others have no checksums."""
    folder = damaged_set(count)
    if not checksums:
        remove_checksums(folder / "index.json")
    with pytest.raises(ShardError, match=r"shard-\d+\.tar .*"):
        ShardIndex.load(folder)
    index = ShardIndex.load(folder, verify_files=False)  # as if it happened after the start
    seen, skips = read_once(index, replace_unusable=False)
    assert Counter([*seen, *skips.keys]) == Counter(sample.key for sample in index.samples)
    shard_of = {sample.key: sample.shard for sample in index.samples}
    if checksums:
        assert all(f"{shard_of[key]}" in why for key, why in skips.reason_of_key.items())
    assert set(seen) >= {sample.key for sample in index.shards[0].samples}
    report = check_shards(folder, decoder="pyav")
    named = {Path(problem.where.partition(": ")[0]).name for problem in report.problems}
    assert named == {Path(shard.path).name for shard in index.shards[1:]}
    assert report.num_samples == index.num_samples


@pytest.mark.parametrize("count", [1, pytest.param(12, marks=LONG)])
def test_in_training_each_sample_is_seen_or_refused_and_no_place_stays_empty(damaged_set, count):
    """Seen to fail where a replacement hides what it replaced: samples were in neither list."""
    index = ShardIndex.load(damaged_set(count), verify_files=False)
    seen, skips = read_once(index, replace_unusable=True)
    assert len(seen) == index.num_samples
    assert set(seen) | set(skips.keys) == {sample.key for sample in index.samples}
    assert skips.keys and not set(seen) & set(skips.keys)


def test_a_size_that_lies_never_sends_the_walk_round(tmp_path):
    """2,560 bytes hang Python's tarfile in stream mode (CVE-2026-11972)."""
    data = damaged("size lies", 0)[:2560]
    begin = time.monotonic()
    found = list(survey_open_tar(io.BytesIO(data), "x"))
    assert any(isinstance(fault, TarFault) for fault in found)
    assert time.monotonic() - begin < SECONDS_OF_ONE
