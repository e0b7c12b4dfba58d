"""A thousand damaged videos of 14 classes, on the two ways by which videos come to a training.

What is promised: no crash, no hang, no silent loss. Every video of a set is seen or refused, and
each refused one is named with a reason of one line. Where a checksum was taken when a set was
packed, a damaged video is never seen.
"""

import os
import tarfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import shard_reader
from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.decoders.base import decoder_class, decoder_names
from data_pipelines.frames import DecodeError
from data_pipelines.packing import pack_videos
from data_pipelines.plan import EvaluationBatchSampler
from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader
from data_pipelines.transforms import ResizeWholeFrame
from tests.reliability.corrupt_videos import (
    KINDS,
    NUM_FRAMES,
    CorruptVideo,
    corrupt_videos,
    whole_videos,
)

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
# 14 kinds x 72 are 1,008 videos.
each_size = pytest.mark.parametrize("per_kind", [1, pytest.param(72, marks=LONG)])


def installed(name):
    try:
        decoder_class(name)
    except ImportError as error:
        return pytest.param(name, marks=pytest.mark.skip(reason=str(error)))
    return pytest.param(name, marks=() if name == "decord" else LONG)


each_decoder = pytest.mark.parametrize("decoder", [installed(name) for name in decoder_names()])
corrupt = cache(lambda per_kind: tuple(corrupt_videos(per_kind)))


def seen_and_refused(index, *, decoder, isolate=None):
    """One pass over an index: the keys that came, and key -> why of those that did not."""
    dataset = ClipDataset(
        index,
        clip_length_frames=4,
        transform=ResizeWholeFrame(16),
        decoder=decoder,
        isolate_decoding=isolate,
        replace_unusable=False,
    )
    skips = SkipCounter(1.0)
    sampler = EvaluationBatchSampler(index.num_samples, batch_size=8)
    loader = CountingLoader(dataset, sampler, skips=skips)
    keys = [key for batch in loader for key in batch.only_valid().keys]
    return keys, skips.reason_of_key


def assert_nothing_is_lost(names, seen, refused):
    """Each name comes once, as seen or as refused; what is refused has a reason of one line."""
    assert Counter([*seen, *refused]) == Counter(names)
    for name, reason in refused.items():
        assert reason.strip() and "\n" not in reason and len(reason) < 400, (name, reason)


@each_size
@each_decoder
def test_packing_takes_or_names_every_damaged_video(tmp_path, decoder, per_kind):
    """Seen to fail without the child process: decord ended the test with signal 11."""
    (tmp_path / "videos").mkdir()
    for video in corrupt(per_kind):
        (tmp_path / "videos" / f"{video.name}.mp4").write_bytes(video.data)
    whole = whole_videos(2)
    for number, data in enumerate(whole):
        (tmp_path / "videos" / f"whole-{number}.mp4").write_bytes(data)
    packed = pack_videos(tmp_path / "videos", tmp_path / "shards", decoder=decoder)
    seen = [sample.key for sample in packed.index.samples]
    refused = {skip.path.removesuffix(".mp4"): skip.reason for skip in packed.skipped}
    names = [video.name for video in corrupt(per_kind)]
    assert_nothing_is_lost([*names, "whole-0", "whole-1"], seen, refused)
    assert {"whole-0", "whole-1"} <= set(seen) and len(refused) > len(names) / 2
    assert not any("AttributeError" in why or "(status 1)" in why for why in refused.values())


@each_size
@each_decoder
def test_training_on_a_tar_of_damaged_videos_sees_or_names_each(tmp_path, decoder, per_kind):
    """Seen to fail without the child process: decord ended the test with signal 6."""
    videos = [*corrupt(per_kind), CorruptVideo("whole", "whole", whole_videos(1)[0])]
    write_tar(tmp_path / "foreign.tar", videos)
    index = ShardIndex.load(tmp_path / "foreign.tar")
    assert index.num_samples == len(videos)
    seen, refused = seen_and_refused(index, decoder=decoder)
    assert_nothing_is_lost([video.name for video in videos], seen, refused)
    assert "whole" in seen and len(refused) > len(videos) / 2


def write_tar(path, videos):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for video in videos:
            (place := path.with_name("one")).write_bytes(video.data)
            tar.add(place, f"{video.name}.mp4")


@pytest.fixture
def rotten(tmp_path):
    """Returns a maker: a packed set whose members were damaged on the disk, and whole ones."""

    def make(per_kind):
        folder, originals = tmp_path / "videos", whole_videos()
        folder.mkdir()
        for number, video in enumerate(corrupt(per_kind)):
            (folder / f"{video.name}.mp4").write_bytes(originals[number % per_kind % 8])
        (folder / "whole.mp4").write_bytes(originals[0])
        pack_videos(folder, tmp_path / "shards", decoder="pyav", samples_per_shard=100)
        index = ShardIndex.load(tmp_path / "shards")
        data_of = {video.name: video.data for video in corrupt(per_kind)}
        for sample in index.samples:
            if sample.key in data_of:
                overwrite(sample, data_of[sample.key])
        return index

    return make


def overwrite(sample, data):
    """Puts a damaged video where the whole one was: no longer, and filled up with zeros."""
    member = sample.members["mp4"]
    with Path(sample.shard).open("r+b") as file:
        file.seek(member.offset)
        file.write(data[: member.size].ljust(member.size, b"\0"))


@each_size
def test_no_damaged_video_of_a_packed_set_reaches_a_decoder(rotten, per_kind):
    """Seen to fail without the checksum: decord ended the test with signal 11."""
    index = rotten(per_kind)
    seen, refused = seen_and_refused(index, decoder="decord")
    assert seen == ["whole"]
    assert_nothing_is_lost([sample.key for sample in index.samples], seen, refused)
    assert all("is not what was packed (CRC-32 differs" in why for why in refused.values())
    report = check_shards(Path(index.shards[0].path).parent, decoder="pyav")
    named = {problem.where.rpartition(": ")[2].strip("'") for problem in report.problems}
    assert set(refused) <= named and "whole" not in named


@LONG
def test_the_decoders_silence_proves_nothing(rotten, monkeypatch):
    """Why the checksum is there: without it damaged videos decode, to frames that never were."""
    index = rotten(8)
    monkeypatch.setattr(shard_reader, "_is_as_packed", lambda data, member: True)
    seen, _ = seen_and_refused(index, decoder="pyav")
    wrong = [video for video in corrupt(8) if video.name in seen and not is_whole(video.data)]
    assert len(wrong) >= 8 and {"bit flips"} <= {video.kind for video in wrong}


def is_whole(data):
    """Returns whether all frames come out as those of one of the whole videos."""
    try:
        with decoder_class("pyav")(data, "x") as video:
            pixels = video.frames_at(range(len(video.timestamps_seconds()))).pixels
    except DecodeError:
        return False
    return any(np.array_equal(pixels, whole) for whole in _frames_of_whole())


@cache
def _frames_of_whole():
    frames = []
    for data in whole_videos():
        with decoder_class("pyav")(data, "whole") as video:
            frames.append(video.frames_at(range(NUM_FRAMES)).pixels)
    return frames


def test_the_table_has_fourteen_kinds_and_each_file_is_another():
    assert len(KINDS) == 14
    videos = list(corrupt_videos(3))
    assert len({video.data for video in videos if video.kind != "empty"}) == 13 * 3
    assert not {video.data for video in videos} & set(whole_videos())
