import shutil
import tempfile
from pathlib import Path

import pytest
import webdataset

from data_pipelines.__main__ import main
from data_pipelines.remote_files import RetryPolicy
from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader


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


def test_a_video_that_crashes_the_decoder_is_a_line_like_any_other(copied, tmp_path, capfd):
    """`crashes_decord.mp4` has a few changed bytes, for which decord 0.6 ends with a segfault."""
    bad = (Path(__file__).parent / "importers/crashes_decord.mp4").read_bytes()
    with webdataset.TarWriter(str(tmp_path / "some.tar")) as writer:
        for number, sample in enumerate(ShardIndex.load(copied).samples[:3]):
            video = ShardReader().read(sample, "mp4") if number != 1 else bad
            writer.write({"__key__": f"k{number}", "mp4": video})
    assert main(["check", str(tmp_path / "some.tar")]) == 1
    *problems, last = capfd.readouterr().out.splitlines()
    assert last == "checked 3 samples in 1 shards: 1 problems"
    assert problems[0].startswith(f"{tmp_path}/some.tar: 'k1': ") and len(problems) == 1


def test_the_sample_whose_bytes_changed_is_named_beside_its_shard(copied, capsys):
    sample = ShardIndex.load(copied).samples[7]
    with Path(sample.shard).open("r+b") as file:
        file.seek(sample.members["mp4"].offset + 100)
        file.write(b"?!?!")
    assert main(["check", str(copied)]) == 1
    whole, one, _ = capsys.readouterr().out.splitlines()
    assert whole == f"{sample.shard}: changed since it was packed (SHA-256 differs)"
    assert one.startswith(f"{sample.shard}: '{sample.key}': '{sample.key}.mp4' is not what was")


QUICK = RetryPolicy(3, 0.01, 0.03, timeout_seconds=3, stall_seconds=0.2)


def test_remote_shards_are_fetched_once_and_leave_nothing(
    shard_folder, trajectory_folder, web_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for folder, num_shards in ((shard_folder, 3), (trajectory_folder, 2)):
        store = web_store(folder)
        assert check_shards(store.url, full=True, retry=QUICK).problems == ()
        assert sum(request.name.endswith(".tar") for request in store.requests) == 2 * num_shards
    assert list(tmp_path.iterdir()) == []


def test_every_problem_of_remote_shards_is_named_by_its_url(copied, web_store):
    store, sample = web_store(copied), ShardIndex.load(copied).samples[11]
    with (copied / "shard-000002.tar").open("r+b") as file:
        file.seek(sample.members["mp4"].offset + 9)
        file.write(b"?")
    store.fault_of = lambda request: "500" if request.name == "shard-000001.tar" else None
    (copied / "shard-000000.tar").unlink()
    report = check_shards(store.url, retry=QUICK)
    assert {(problem.where, problem.reason) for problem in report.problems} == {
        (f"{store.url}/shard-000000.tar", "missing"),
        (
            f"{store.url}/shard-000001.tar",
            "status 500 (Internal Server Error) (given up after 3 attempts)",
        ),
        (f"{store.url}/shard-000002.tar", "changed since it was packed (SHA-256 differs)"),
        (
            f"{store.url}/shard-000002.tar: '{sample.key}'",
            f"'{sample.key}.mp4' is not what was packed (CRC-32 differs at byte "
            f"{sample.members['mp4'].offset}); pack it again",
        ),
    }


def test_a_bad_sample_of_a_remote_tar_is_named_without_an_index(copied, web_store, capsys):
    sample = ShardIndex.load(copied).samples[2]
    (copied / "index.json").unlink()
    member, data = sample.members["mp4"], bytearray(Path(sample.shard).read_bytes())
    data[member.offset : member.offset + member.size] = b"#" * member.size
    Path(sample.shard).write_bytes(data)
    url = web_store(copied).url
    assert main(["check", f"{url}/shard-{{000000..000002}}.tar"]) == 1
    said = capsys.readouterr().out
    assert f"{url}/shard-000000.tar: '{sample.key}': " in said and "not a video" in said
    assert "checked 12 samples in 3 shards: 1 problems" in said
    assert main(["info", f"{url}/shard-000001.tar"]) == 0
    assert "samples    5, skipped when packed 0" in capsys.readouterr().out
    assert main(["info", url]) == 2
    assert "error: " in (said := capsys.readouterr().err) and said.count("\n") == 1
