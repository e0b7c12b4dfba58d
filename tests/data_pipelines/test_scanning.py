import csv
import hashlib
import importlib.util
import os
import sys

import pytest

from data_pipelines.__main__ import main
from data_pipelines.packing import pack_videos
from data_pipelines.scanning import scan_videos
from data_pipelines.shard_index import ShardIndex


@pytest.fixture
def bad_folder(video_folder, tmp_path):
    folder = tmp_path / "videos"
    (folder / "odd").mkdir(parents=True)
    (folder / "odd/a, b.mp4").write_bytes((video_folder / "odd/video01.mp4").read_bytes())
    (folder / "odd/good.mp4").write_bytes((video_folder / "odd/video03.mp4").read_bytes())
    (folder / "bad.mp4").write_text("words")
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_scan_writes_what_can_be_read_and_the_rest_beside_it(bad_folder, tmp_path, num_workers):
    out = tmp_path / "deep" / "m.csv"
    scan_videos(bad_folder, out, with_sha256=True, num_workers=num_workers)
    first, second = rows_of(out)
    path = bad_folder / "odd/a, b.mp4"
    assert first == {
        "path": str(path),
        "label": "odd",
        "num_frames": "21",
        "fps": first["fps"],
        "duration": first["duration"],
        "height": "48",
        "width": "64",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert float(first["fps"]) == pytest.approx(10) and float(first["duration"]) == pytest.approx(
        2.1, abs=1e-4
    )
    assert second["path"].endswith("odd/good.mp4")
    (skipped,) = rows_of(tmp_path / "deep/m.skipped.csv")
    assert skipped["path"] == str(bad_folder / "bad.mp4") and "not a video" in skipped["reason"]
    assert sorted(os.listdir(out.parent)) == ["m.csv", "m.skipped.csv"]


def test_a_list_of_skips_does_not_outlive_them(bad_folder, tmp_path):
    scan_videos(bad_folder, tmp_path / "m.csv")
    (bad_folder / "bad.mp4").unlink()
    scan_videos(bad_folder, tmp_path / "m.csv")
    assert not (tmp_path / "m.skipped.csv").exists()


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_pack_takes_a_manifest_as_it_takes_the_folder(video_folder, tmp_path, extension):
    if extension == "parquet":
        pytest.importorskip("pyarrow")
    scan_videos(video_folder, tmp_path / f"m.{extension}")
    of_folder = pack_videos(video_folder, tmp_path / "1").index
    of_manifest = pack_videos(tmp_path / f"m.{extension}", tmp_path / "2").index
    assert [shard.sha256 for shard in of_manifest.shards] == [s.sha256 for s in of_folder.shards]


def test_a_scan_of_an_official_list_keeps_labels_and_parts_keep_their_times(video_folder, tmp_path):
    (tmp_path / "k400.csv").write_text(f"{video_folder}/odd/video01.mp4 7\n")
    (row,) = scan_videos(tmp_path / "k400.csv", tmp_path / "m.csv").rows
    assert row["label"] == "7" and "start" not in row
    (tmp_path / "parts.csv").write_text(f"path,start,end\n{video_folder}/odd/video01.mp4,0.5,1\n")
    (row,) = scan_videos(tmp_path / "parts.csv", tmp_path / "m.csv").rows
    assert (row["start"], row["end"], row["label"]) == (0.5, 1.0, None)


def test_pyarrow_is_asked_for_before_the_work(video_folder, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find_spec(name)
    )
    with pytest.raises(ImportError, match="Parquet needs pyarrow: pip install pyarrow, or write"):
        scan_videos(video_folder, tmp_path / "m.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match="Parquet files need pyarrow"):
        scan_videos(tmp_path / "x.parquet", tmp_path / "m.csv")


def test_a_scan_of_nothing_usable_is_one_line_and_writes_nothing(bad_folder, tmp_path):
    for path in (bad_folder / "odd").iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match=r"no usable video in .*1 of 1 skipped; first: /.*bad\.mp4"
    ):
        scan_videos(bad_folder, tmp_path / "m.csv")
    with pytest.raises(ValueError, match=r"name ends in \.csv or \.parquet"):
        scan_videos(bad_folder, tmp_path / "m.json")
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_groups_go_from_a_list_through_scan_and_pack_into_the_split(
    video_folder, tmp_path, extension
):
    """Else clips of one recording come to lie in both parts. The last row says no group."""
    if extension == "parquet":
        pytest.importorskip("pyarrow")
    paths = sorted(video_folder.rglob("*.mp4"))
    lines = [f"{path},group{number // 6}" for number, path in enumerate(paths[:-1])]
    (tmp_path / "list.csv").write_text("\n".join(["path,group", *lines, f"{paths[-1]},"]))
    manifest, packed, parts = (tmp_path / name for name in (f"m.{extension}", "packed", "parts"))
    assert main(["scan", str(tmp_path / "list.csv"), str(manifest)]) == 0
    assert main(["pack", str(manifest), str(packed)]) == 0
    groups = [sample.group for sample in ShardIndex.load(packed).samples]
    assert sorted(groups) == ["", *["group0"] * 6, *["group1"] * 5]
    words = ["split", str(packed), "--out", str(parts), "--parts", "train=0.5", "val=0.5"]
    assert main(words) == 0
    train, val = (
        {sample.group for sample in ShardIndex.load(parts / name).samples}
        for name in ("train", "val")
    )
    assert train & val == set()


def test_a_scan_says_what_it_did_not_look_at(bad_folder, tmp_path, capsys):
    (bad_folder / "odd/good.srt").write_text("words")
    assert main(["scan", str(bad_folder), str(tmp_path / "m.csv")]) == 0
    assert "left out: 1 files of other types (.srt 1)" in capsys.readouterr().out


def test_with_hashes_a_file_of_a_store_is_fetched_once(video_folder, tmp_path, web_store):
    store = web_store(video_folder)
    (tmp_path / "list.csv").write_text(f"{store.url}/odd/video01.mp4\n")
    (row,) = scan_videos(tmp_path / "list.csv", tmp_path / "m.csv", with_sha256=True).rows
    data = (video_folder / "odd/video01.mp4").read_bytes()
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert [request.last for request in store.requests] == [0, len(data) - 1]
