import io
import pickle

import numpy as np
import pytest

from data_pipelines.samples import Member, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader, read_member
from data_pipelines.tar_headers import ShardError


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
