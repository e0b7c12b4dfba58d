import shutil
from pathlib import Path

import pytest

from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex


@pytest.fixture
def copied(shard_folder, tmp_path):
    return Path(shutil.copytree(shard_folder, tmp_path / "shards"))


@pytest.mark.parametrize("full", [False, True])
def test_good_shards_have_no_problem(shard_folder, trajectory_folder, full):
    report = check_shards(shard_folder, full=full)
    assert (report.num_shards, report.num_samples, report.problems) == (3, 12, ())
    assert check_shards(trajectory_folder, full=full).problems == ()


def test_every_problem_is_named_and_none_stops_the_check(copied):
    (copied / "shard-000000.tar").unlink()
    sample = ShardIndex.load(copied, verify_files=False).samples[6]
    data = bytearray((copied / "shard-000001.tar").read_bytes())
    data[sample.members["mp4"].offset + 50] ^= 255
    (copied / "shard-000001.tar").write_bytes(data)
    cut = (copied / "shard-000002.tar").read_bytes()[:1500]
    (copied / "shard-000002.tar").write_bytes(cut)
    problems = {(Path(p.where).name, p.reason[:30]) for p in check_shards(copied).problems}
    assert ("shard-000000.tar", "missing") in problems
    assert ("shard-000001.tar", "changed since it was packed (S") in problems
    assert any(name == "shard-000002.tar" and why.startswith("truncated") for name, why in problems)


def test_a_video_that_does_not_decode_is_named_even_without_an_index(copied):
    sample = ShardIndex.load(copied).samples[2]
    (copied / "index.json").unlink()
    member, data = sample.members["mp4"], bytearray(Path(sample.shard).read_bytes())
    data[member.offset : member.offset + member.size] = b"#" * member.size
    Path(sample.shard).write_bytes(data)
    (problem,) = check_shards(copied).problems
    assert problem.where.endswith(f"'{sample.key}'") and "not a video" in problem.reason
