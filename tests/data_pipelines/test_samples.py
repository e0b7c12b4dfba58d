from data_pipelines.frames import VideoMetadata
from data_pipelines.samples import Member, Sample, Shard, shard_from_json, shard_to_json


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
