import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import pack_videos
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import TrajectorySpecification
from data_pipelines.unpacking import unpack_shards

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def write_tar(path, files):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def names_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def inodes(folder):
    """Returns which files these are: one that is written again is another."""
    status = {name: (folder / name).stat() for name in names_in(folder)}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in status.items()}


def rows_of(folder):
    with (folder / "videos.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def labelled(video_folder, tmp_path):
    """A set whose samples have labels and groups; one has neither."""
    rows = [("even/video00.mp4", "0", "day 1"), ("even/video02.mp4", "0", "day, 2")]
    rows += [("odd/video01.mp4", "1", "day 1"), ("odd/video03.mp4", "", "")]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        writer.writerows((video_folder / path, label, group) for path, label, group in rows)
    pack_videos(tmp_path / "list.csv", tmp_path / "packed")
    return tmp_path / "packed"


def test_unpacked_and_packed_again_samples_are_the_same(labelled, tmp_path):
    result = unpack_shards(labelled, tmp_path / "folder")
    assert len(result.rows) == 4 and result.skipped == ()
    pack_videos(tmp_path / "folder/videos.csv", tmp_path / "again")
    before, after, reader = (
        ShardIndex.load(labelled),
        ShardIndex.load(tmp_path / "again"),
        ShardReader(),
    )
    for one, two in zip(before.samples, after.samples, strict=True):
        assert reader.read(one, "mp4") == reader.read(two, "mp4")
        assert (one.key, one.label, one.group) == (two.key, two.label, two.group)
        assert one.metadata == two.metadata
    assert [(s.label, s.group) for s in after.samples] == [
        ("0", "day 1"),
        ("0", "day, 2"),
        ("1", "day 1"),
        (None, ""),
    ]


def test_the_list_says_what_is_known_of_each_video(shard_folder, video_folder, tmp_path):
    unpack_shards(shard_folder, tmp_path / "out")
    assert len(names_in(tmp_path / "out")) == 12 + 2  # the list, and the hidden record
    row = rows_of(tmp_path / "out")[0]
    assert row == {
        "path": "even/video00.mp4",
        "label": "even",
        "source": "even/video00.mp4",
        "group": "",
        "num_frames": "20",
        "frames_per_second": "10.0",
        "duration_seconds": "2.0",
    }
    for row in rows_of(tmp_path / "out"):
        original = (video_folder / row["source"]).read_bytes()
        assert (tmp_path / "out" / row["path"]).read_bytes() == original


def test_states_and_actions_lie_beside_their_videos(trajectory_folder, episode, tmp_path):
    unpack_shards(trajectory_folder, tmp_path / "out")
    for number in range(6):
        place = tmp_path / "out" / f"episode{number:02d}"
        states = np.load(place.with_suffix(".states.npy"), allow_pickle=False)
        actions = np.load(place.with_suffix(".actions.npy"), allow_pickle=False)
        np.testing.assert_array_equal(states, episode(number).states)
        np.testing.assert_array_equal(actions, episode(number).actions)
    values = json.loads((tmp_path / "out/specification.json").read_text())
    specification = ShardIndex.load(trajectory_folder).specification
    assert TrajectorySpecification.from_json(values) == specification
    assert {row["group"] for row in rows_of(tmp_path / "out")} == {"group0", "group1"}


@pytest.mark.parametrize("key", ["../../x", "../x", "/tmp_of_nobody/x", "a/../../x"])
def test_no_key_leads_out_of_the_folder(video_folder, tmp_path, key):
    video = (video_folder / "odd/video01.mp4").read_bytes()
    (tmp_path / "deep/in").mkdir(parents=True)
    write_tar(tmp_path / "deep/in/x.tar", {f"{key}.mp4": video, "good.mp4": video})
    before = names_in(tmp_path)
    result = unpack_shards(tmp_path / "deep/in/x.tar", tmp_path / "deep/out")
    assert [video.path for video in result.skipped] == [key]
    assert "leads out of its folder" in result.skipped[0].reason
    new = set(names_in(tmp_path)) - set(before)
    assert new == {f"deep/out/{name}" for name in (".unpacked.json", "good.mp4", "videos.csv")}


def test_a_folder_with_files_is_written_to_on_demand_only(shard_folder, tmp_path):
    (tmp_path / "even").mkdir()
    (tmp_path / "even/video00.mp4").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ShardError, match=r"is not empty; choose another folder or --overwrite"):
        unpack_shards(shard_folder, tmp_path)
    unpack_shards(shard_folder, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "even/video00.mp4").stat().st_size > 100
    assert len(rows_of(tmp_path)) == 12


def test_nothing_is_written_through_a_link_to_another_place(shard_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/even").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShardError, match="even is a link to another place"):
        unpack_shards(shard_folder, tmp_path / "out", overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(shard_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("data_pipelines.unpacking._csv_bytes", fail)
        unpack_shards(shard_folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out.unpacking"]
    finished = inodes(tmp_path / ".out.unpacking/files")
    assert len(finished) == 12
    unpack_shards(shard_folder, tmp_path / "out")
    assert finished.items() < inodes(tmp_path / "out").items(), "no finished file is written twice"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# Runs `convert ... --to folder` and ends itself, as SIGKILL does, at the n-th rename of a file.
DYING_PROGRAM = """
import os, signal, sys
from data_pipelines import unpack_staging
from data_pipelines.__main__ import main
rename, renamed = os.replace, []
def rename_or_die(*names):
    if len(renamed) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    renamed.append(names)
    rename(*names)
os.replace = rename_or_die
sys.exit(main(sys.argv[2:]))
"""


def die_at_rename(number, *words):
    program = [sys.executable, "-c", DYING_PROGRAM, str(number), *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True).returncode


@needs_posix
@pytest.mark.parametrize("number", [0, 6, 14, 15])
def test_a_run_that_is_killed_goes_on_and_gives_the_same_files(shard_folder, tmp_path, number):
    """The plan is rename 0, the videos are 1 to 12, then come the list, the record, the folder."""
    out, waiting = tmp_path / "out", tmp_path / ".out.unpacking/files"
    assert die_at_rename(number, "convert", shard_folder, out, "--to", "folder") == -9
    assert not out.exists()
    finished = inodes(waiting) if waiting.exists() else {}
    videos = {name: file for name, file in finished.items() if name.endswith(".mp4")}
    assert len(finished) == max(number - 1, 0) and len(videos) == min(len(finished), 12)
    assert not unpack_shards(shard_folder, out).was_there
    assert videos.items() <= inodes(out).items(), "no finished file is written twice"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    unpack_shards(shard_folder, tmp_path / "whole")
    assert files_of(out) == files_of(tmp_path / "whole")


@needs_posix
@pytest.mark.parametrize("number", [15, 20, 28])
def test_files_that_are_moved_into_a_folder_when_the_run_is_killed_all_arrive(
    shard_folder, tmp_path, number
):
    """Renames 15 to 28 move the files, the list and the record into a folder that holds one."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    command = ["convert", shard_folder, out, "--to", "folder", "--overwrite"]
    assert die_at_rename(number, *command) == -9
    assert not (out / ".unpacked.json").exists()
    with pytest.raises(ShardError, match="is not empty; choose another folder or --overwrite"):
        unpack_shards(shard_folder, out)
    unpack_shards(shard_folder, out, overwrite=True)
    unpack_shards(shard_folder, tmp_path / "whole")
    assert files_of(out) == {**files_of(tmp_path / "whole"), "mine.txt": b"mine"}
    assert unpack_shards(shard_folder, out).was_there


def test_a_second_run_of_a_finished_one_does_nothing(shard_folder, tmp_path, capsys):
    shutil.copytree(shard_folder, tmp_path / "in")
    bad = ShardIndex.load(tmp_path / "in").samples[7]
    with open(bad.shard, "r+b") as file:
        file.seek(bad.members["mp4"].offset + 40)
        file.write(b"damage")
    command = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "folder"]
    assert main(command) == 0
    first, before = capsys.readouterr().out, inodes(tmp_path / "out")
    assert main(command) == 0
    assert inodes(tmp_path / "out") == before
    assert capsys.readouterr().out == first.replace("/out;", "/out (was there already);")
    assert main([*command, "--overwrite"]) == 0
    assert inodes(tmp_path / "out").keys() == before.keys() and inodes(tmp_path / "out") != before


def test_a_finished_folder_that_lost_a_file_is_not_called_finished(shard_folder, tmp_path):
    unpack_shards(shard_folder, tmp_path / "out")
    (tmp_path / "out/odd/video01.mp4").write_bytes(b"short")
    with pytest.raises(ShardError, match=r"video01\.mp4 is gone or was changed since"):
        unpack_shards(shard_folder, tmp_path / "out")
    unpack_shards(shard_folder, tmp_path / "out", overwrite=True)
    assert unpack_shards(shard_folder, tmp_path / "out").was_there


def test_a_waiting_file_that_is_not_what_was_packed_is_written_again(shard_folder, tmp_path):
    out, waiting = tmp_path / "out", tmp_path / ".out.unpacking/files/even/video00.mp4"
    assert die_at_rename(6, "convert", shard_folder, out, "--to", "folder") == -9
    whole = waiting.read_bytes()
    waiting.write_bytes(bytes(len(whole)))  # as a machine that lost its power may leave it
    unpack_shards(shard_folder, out)
    assert (out / "even/video00.mp4").read_bytes() == whole


def test_an_unfinished_run_of_other_samples_is_in_the_way(shard_folder, tmp_path):
    out = tmp_path / "out"
    assert die_at_rename(6, "convert", shard_folder, out, "--to", "folder") == -9
    part = shard_folder / "shard-000001.tar"
    with pytest.raises(ShardError, match=r"unfinished unpacking of other samples: .*--over"):
        unpack_shards(part, out)
    unpack_shards(part, out, overwrite=True)
    assert len(names_in(out)) == 5 + 2


def test_two_runs_at_once_do_not_meet(shard_folder, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".out.unpacking").mkdir()
    with (tmp_path / ".out.unpacking/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ShardError, match="another process is writing to"):
            unpack_shards(shard_folder, tmp_path / "out")
    unpack_shards(shard_folder, tmp_path / "out")


def test_a_damaged_sample_is_left_out_and_named(shard_folder, tmp_path):
    shutil.copytree(shard_folder, tmp_path / "in")
    bad = ShardIndex.load(tmp_path / "in").samples[7]
    with open(bad.shard, "r+b") as file:
        file.seek(bad.members["mp4"].offset + 40)
        file.write(b"damage")
    result = unpack_shards(tmp_path / "in", tmp_path / "out")
    assert [video.path for video in result.skipped] == [bad.key]
    assert result.skipped[0].reason.startswith(f"shard-000001.tar: '{bad.key}.mp4' is not what was")
    assert len(rows_of(tmp_path / "out")) == 11
    assert not (tmp_path / "out" / f"{bad.key}.mp4").exists()


def test_nothing_is_unpacked_into_the_set_itself(shard_folder):
    with pytest.raises(ShardError, match="is, or lies in, the set"):
        unpack_shards(shard_folder, shard_folder / "videos")
