import io
import tarfile

import pytest

from data_pipelines.shard_index import ShardIndex
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


def test_a_key_that_reappears_is_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b""), ("b.mp4", b""), ("a.json", b"{}")])
    with pytest.raises(ShardError, match=r"x\.tar: key 'a' reappears at byte"):
        index_tar(path)


def test_a_sample_without_a_video_is_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.json", b"{}")])
    with pytest.raises(ShardError, match=r"x\.tar: sample 'a' has no video"):
        index_tar(path)


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
