import tracemalloc
from dataclasses import replace

import pytest

from data_pipelines.frames import VideoMetadata
from data_pipelines.samples import (
    Member,
    Sample,
    Samples,
    Shard,
    are_of_image,
    are_of_trajectory,
    metadata_from_json,
    shard_from_json,
    shard_to_json,
)


def test_a_shard_survives_the_way_through_json(tmp_path):
    path = str(tmp_path / "shard-000000.tar")
    members = {"mp4": Member(512, 99, 12345), "json": Member(1536, 7, None)}
    metadata = VideoMetadata(30, 9.99, 3.003, 32, 48)
    shard = Shard(
        path,
        2048,
        (
            Sample("a/b", path, members, metadata, label="a", source="a/b.mp4", group="g"),
            Sample("c", path, members),
        ),
        sha256="00ff",
    )
    assert shard_from_json(shard_to_json(shard), tmp_path) == shard


def test_a_sample_knows_its_video_and_whether_it_has_actions():
    place = Member(0, 1)
    assert Sample("k", "s.tar", {"json": place, "webm": place}).video_extension == "webm"
    members = {"mp4": place, "states.npy": place, "actions.npy": place}
    assert Sample("k", "s.tar", members).is_trajectory
    assert not Sample("k", "s.tar", {"mp4": place}).is_trajectory


def some_samples(count):
    """Samples as of a set of videos with labels: long keys, most texts in several places."""
    for number in range(count):
        key = f"class{number % 40:03d}/video_{number:08d}_abcdefghijk"
        members = {
            "mp4": Member(302_000 * number + 512, 300_000, number * 40503),
            "json": Member(302_000 * number + 301_000, 250, number),
        }
        metadata = VideoMetadata(300 + number, 29.97, 10.0, 288, 384)
        yield Sample(key, "set/shard-000000.tar", members, metadata, key[:8], f"{key}.mp4", key)


def test_samples_in_columns_are_those_that_were_put_in():
    given = tuple(some_samples(20))
    given += (replace(given[0], key="none", metadata=None, label=None, source=None, members={}),)
    samples = Samples(given)
    assert tuple(samples) == given and samples == given == samples
    assert [list(s.members) for s in samples] == [list(s.members) for s in given]
    assert samples[-1] == given[-1] and samples[3:9:2] == given[3:9:2] and len(samples) == 21
    assert isinstance(samples[0].metadata.num_frames, int) and hash(samples[0].metadata)
    assert Shard("x.tar", 1, given) == Shard("x.tar", 1, samples) != Shard("x.tar", 1, given[1:])
    with pytest.raises(IndexError):
        samples[21]


def test_sums_over_columns_are_those_over_samples():
    place = Member(0, 5)
    robot = {"mp4": place, "states.npy": place, "actions.npy": place}
    given = [*some_samples(9)]
    given += [replace(given[0], members=members) for members in ({"png": place}, robot)]
    samples = Samples(given)
    assert samples.count_of(are_of_image) == sum(sample.is_image for sample in given) == 1
    assert samples.count_of(are_of_trajectory) == 1
    assert samples.duration_seconds == 100.0  # the picture's ten seconds are none
    assert list(samples.keys_and_sizes())[-1] == (
        given[0].key,
        [("actions.npy", 5), ("mp4", 5), ("states.npy", 5)],
    )


def test_a_sample_in_columns_takes_a_third_of_what_it_takes_as_an_object():
    """Every process holds all samples; and a worker would copy each object that it looks at."""

    def held_bytes(make):
        tracemalloc.start()
        held = make(some_samples(5000))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size / len(held)

    assert held_bytes(Samples) < 300 < 900 < held_bytes(tuple)


def test_numbers_that_no_video_has_are_not_taken_for_metadata():
    good = {"num_frames": 3, "frames_per_second": 1.5, "duration_seconds": 2}
    good |= {"height": 4, "width": 5}
    assert metadata_from_json(good) == VideoMetadata(3, 1.5, 2.0, 4, 5)
    for name in good:
        for value in (0, -1, 2**53, 10**400, float("inf"), float("nan"), None, "x"):
            assert metadata_from_json({**good, name: value}) is None
