import io
import tarfile

import pytest
import webdataset

from data_pipelines.__main__ import main
from data_pipelines.manifest import SkippedVideo
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar


def write_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_headers_alone_give_the_index_that_packing_wrote(shard_folder):
    for shard in ShardIndex.load(shard_folder).shards:
        walked = index_tar(shard.path)
        assert walked.num_bytes == shard.num_bytes
        for mine, packed in zip(walked.samples, shard.samples, strict=True):
            assert (mine.key, mine.metadata, mine.label, mine.source) == (
                packed.key,
                packed.metadata,
                packed.label,
                packed.source,
            )
            assert {n: (m.offset, m.size) for n, m in mine.members.items()} == {
                n: (m.offset, m.size) for n, m in packed.members.items()
            }


def test_foreign_shards_without_metadata_are_read(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b"1"), ("b.mp4", b"2"), ("b.json", b"{}")])
    assert [(s.key, s.metadata) for s in index_tar(path).samples] == [("a", None), ("b", None)]


def test_shards_that_webdataset_wrote_are_used_as_they_are(video_folder, tmp_path, capsys):
    """Its writer puts a PAX header before each member; folders and long keys come with `tar`."""
    videos = sorted(video_folder.rglob("*.mp4"))[:4]
    with webdataset.ShardWriter(f"{tmp_path}/shard-%06d.tar", maxcount=3, verbose=0) as writer:
        for video in videos:
            key = f"{video.parent.name}/{'long' * 30}-{video.stem}"
            about = {"label": video.parent.name}
            writer.write({"__key__": key, "mp4": video.read_bytes(), "json": about})
    index, reader = ShardIndex.load(tmp_path), ShardReader()
    assert [reader.read(sample, "mp4") for sample in index.samples] == [
        video.read_bytes() for video in videos
    ]
    assert index.damaged == () and index.samples[0].label == "even"
    assert main(["check", str(tmp_path)]) == 0
    assert "checked 4 samples in 2 shards: no problem" in capsys.readouterr().out
    assert main(["convert", str(tmp_path), f"{tmp_path}-ours"]) == 0
    assert ShardIndex.load(f"{tmp_path}-ours").num_samples == 4


def test_a_key_that_reappears_is_left_out(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b""), ("b.mp4", b""), ("a.json", b"{}")])
    shard = index_tar(path)
    assert [sample.key for sample in shard.samples] == ["b"]
    assert shard.damaged == (SkippedVideo("a", "x.tar: key 'a' reappears at byte 1536"),)


def test_a_tar_without_a_usable_sample_is_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.json", b"{}")])
    with pytest.raises(ShardError, match=r"x\.tar: sample 'a' has no video"):
        index_tar(path)


def test_beside_a_damaged_header_a_sample_must_have_what_the_others_have(tmp_path):
    members = [(f"{k}.{e}", b"{}") for k in "abcd" for e in ("json", "mp4", "txt")]
    path = write_tar(tmp_path / "x.tar", members)
    data = bytearray(path.read_bytes())
    data[data.index(b"b.txt") + 100] ^= 1  # nothing tells that this was of b
    path.write_bytes(data)
    shard = index_tar(path)
    assert [sample.key for sample in shard.samples] == ["a", "c", "d"]
    ((key, reason),) = [(video.path, video.reason) for video in shard.damaged]
    assert key == "b" and "sample 'b' has no txt; header at byte 5120: damaged" in reason
    assert "1024 bytes are left out" in reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{not json", r"'a\.json' is not JSON"),
        (b"[1]", "must be a JSON object, got list"),
        (b" " * (1 << 21), "has 2097152 bytes, at most"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_json_member_is_refused(tmp_path, data, message):
    path = write_tar(tmp_path / "x.tar", [("a.json", data), ("a.mp4", b"")])
    with pytest.raises(ShardError, match=message):
        index_tar(path)
