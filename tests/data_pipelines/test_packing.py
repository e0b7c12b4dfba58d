import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from data_pipelines.__main__ import main
from data_pipelines.packing import pack_videos
from data_pipelines.recoding import RecodeSettings
from data_pipelines.shard_index import ShardIndex
from data_pipelines.tar_headers import ShardError

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def videos(video_folder, tmp_path_factory):
    """Twelve good videos, and two bad ones that fill a shard of their own."""
    folder = tmp_path_factory.mktemp("with_bad") / "videos"
    shutil.copytree(video_folder, folder)
    (folder / "even/video05.mp4").write_text("words")
    (folder / "even/video05b.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    start = time.monotonic()
    pack_videos(videos, out, samples_per_shard=2)
    return out, time.monotonic() - start


def start_pack(videos, out, *more):
    program = [sys.executable, "-m", "data_pipelines", "pack", str(videos), str(out)]
    return subprocess.Popen(
        [*program, "--samples-per-shard", "2", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_until_done(videos, out, *, moments, more=()):
    """Kills a pack after each of these times, then lets it finish; returns how many were killed."""
    num_killed = 0
    for seconds in moments:
        process = start_pack(videos, out, *more)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        num_killed += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    else:
        process = start_pack(videos, out, *more)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return num_killed


@needs_posix
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_pack_killed_at_three_moments_gives_the_bytes_of_one_that_was_not(
    videos, uninterrupted, tmp_path, num_workers
):
    out, seconds = uninterrupted
    rng = random.Random(num_workers)
    moments = [rng.uniform(0.3, 1.0) * max(seconds, 1.5) for _ in range(3)]
    more = ("--workers", str(num_workers))
    assert kill_until_done(videos, tmp_path / "out", moments=moments, more=more) >= 1
    assert files_of(tmp_path / "out") == files_of(out)


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs the long form")
@needs_posix
@pytest.mark.slow
def test_a_pack_killed_at_twenty_moments_gives_the_bytes_of_one_that_was_not(
    videos, uninterrupted, tmp_path
):
    out, seconds = uninterrupted
    rng, num_killed, number = random.Random(20), 0, 0
    while num_killed < 20:
        moments = [rng.uniform(0.2, 1.0) * max(seconds, 1.5) for _ in range(4)]
        number += 1
        num_killed += kill_until_done(videos, tmp_path / str(number), moments=moments)
        assert files_of(tmp_path / str(number)) == files_of(out)


EVERY_STEP = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs each")


@needs_posix
@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=[pytest.mark.slow, EVERY_STEP])])
def test_a_pack_killed_at_any_step_of_its_end_goes_on(videos, uninterrupted, tmp_path, stride):
    """Kills before the n-th renaming or removal, in a set that replaces another."""
    out, _ = uninterrupted
    program = (
        "import os, signal, sys, pathlib, shutil\n"
        "from data_pipelines.packing import pack_videos\n"
        "left = int(sys.argv[3])\n"
        "def counted(call):\n"
        "    def wrapped(*arguments, **options):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return call(*arguments, **options)\n"
        "    return wrapped\n"
        "os.replace = counted(os.replace)\n"
        "pathlib.Path.unlink = counted(pathlib.Path.unlink)\n"
        "shutil.rmtree = counted(shutil.rmtree)\n"
        "pack_videos(*sys.argv[1:3], samples_per_shard=2, overwrite=True)\n"
    )
    old = tmp_path / "old"
    pack_videos(videos / "odd", old, samples_per_shard=1)
    for step in range(18, 90, stride):
        place = shutil.copytree(old, tmp_path / str(step))
        command = [sys.executable, "-c", program, str(videos), str(place), str(step)]
        status = subprocess.run(command).returncode
        if status == 0:
            break
        assert status == -signal.SIGKILL
        is_done = (place / "index.json").exists() and not (place / "plan.json").exists()
        pack_videos(videos, place, samples_per_shard=2, overwrite=not is_done)
        assert files_of(place) == files_of(out) and not (place / ".packing").exists()
    else:
        pytest.fail("the pack never came to its end")
    assert step > 26


def test_any_number_of_workers_gives_the_same_bytes(videos, uninterrupted, tmp_path):
    pack_videos(videos, tmp_path, samples_per_shard=2, num_workers=2)
    assert files_of(tmp_path) == files_of(uninterrupted[0])


def test_shards_are_numbered_without_gaps_and_skips_are_named_in_order(uninterrupted):
    names = sorted(path.name for path in uninterrupted[0].glob("*.tar"))
    assert names == [f"shard-{number:06d}.tar" for number in range(len(names))]
    index = ShardIndex.load(uninterrupted[0])
    assert [video.path for video in index.skipped] == ["even/video05.mp4", "even/video05b.mp4"]
    assert index.num_samples == 12


@pytest.fixture
def half_packed(videos, tmp_path):
    """A pack that was stopped when its third shard was to be written."""
    own = shutil.copytree(videos, tmp_path / "videos")
    return own, half_pack(own, tmp_path / "out", samples_per_shard=2)


def half_pack(videos, out, **settings):
    from data_pipelines import shard_jobs

    write, num_written = shard_jobs.write_shard, 0

    def stop_at_third(*arguments, **options):
        nonlocal num_written
        num_written += 1
        if num_written == 3:
            raise KeyboardInterrupt
        return write(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_jobs, "write_shard", stop_at_third)
        pack_videos(videos, out, **settings)
    return out


def test_finished_shards_are_not_written_again(half_packed, uninterrupted):
    videos, out = half_packed
    done = {p.name: p.stat().st_mtime_ns for p in (out / ".packing").glob("shard-*.tar")}
    assert sorted(done) == ["shard-000000.tar", "shard-000001.tar"]
    inodes = {p.stat().st_ino for p in (out / ".packing").glob("shard-*.tar")}
    assert not (out / "index.json").exists()
    pack_videos(videos, out, samples_per_shard=2)
    assert inodes <= {path.stat().st_ino for path in out.glob("shard-*.tar")}
    assert sorted(files_of(out)) == sorted(files_of(uninterrupted[0]))


def test_other_settings_are_refused_in_one_line_and_overwriting_starts_anew(half_packed):
    videos, out = half_packed
    with pytest.raises(ShardError, match=r"unfinished .*: samples_per_shard was 2 and is 5; "):
        pack_videos(videos, out, samples_per_shard=5)
    result = pack_videos(videos, out, samples_per_shard=5, overwrite=True)
    assert len(result.index.shards) == 3
    assert sorted(os.listdir(out)) == ["index.json", *(f"shard-00000{n}.tar" for n in range(3))]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "odd/video01.mp4").unlink(), "odd/video01.mp4 is gone"),
        (lambda folder: (folder / "odd/a.mp4").write_text("x"), "odd/a.mp4 is new"),
        (lambda folder: os.utime(folder / "odd/video01.mp4", (0, 0)), "odd/video01.mp4 changed"),
    ],
)
def test_changed_videos_are_refused_in_one_line(half_packed, change, said):
    videos, out = half_packed
    change(videos)
    with pytest.raises(ShardError, match=rf"unfinished pack of other videos or settings: {said};"):
        pack_videos(videos, out, samples_per_shard=2)


def test_a_video_that_changes_while_it_is_packed_stops_the_pack(videos, tmp_path, monkeypatch):
    from data_pipelines.isolated_probe import ProbeProcess

    own, read_row = shutil.copytree(videos, tmp_path / "videos"), ProbeProcess.read_row

    def grow(probe, path, data):
        row = read_row(probe, path, data)
        with (own / path).open("ab") as file:
            file.write(b"more")
        return row

    monkeypatch.setattr(ProbeProcess, "read_row", grow)
    with pytest.raises(ShardError, match=r"even/video00\.mp4 changed while it was packed"):
        pack_videos(own, tmp_path / "out")
    assert not (tmp_path / "out/index.json").exists()


def test_a_finished_pack_that_is_started_again_has_nothing_to_do(videos, tmp_path, capsys):
    command = ["pack", str(videos), str(tmp_path), "--samples-per-shard", "2"]
    assert main(command) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert main(command) == 0
    said = f"already packed: {tmp_path} holds these 12 samples, shards: 7; nothing to do\n"
    assert capsys.readouterr().out == said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_finished_pack_is_known_again_on_a_copy_of_the_videos(videos, tmp_path):
    first = pack_videos(videos, tmp_path / "out")
    copy = shutil.copytree(videos, tmp_path / "copy", copy_function=shutil.copy)  # other times
    again = pack_videos(copy, tmp_path / "out")
    assert again.was_there and not first.was_there and again.index == first.index


def longer(path):
    path.write_bytes(path.read_bytes() + bytes(8))


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (None, {"samples_per_shard": 3}, "samples_per_shard was 256 and is 3"),
        (None, {"min_frames": 4}, "min_frames was 0 and is 4"),
        (lambda folder: (folder / "odd/video01.mp4").unlink(), {}, "odd/video01.mp4 is gone"),
        (lambda folder: (folder / "even/video05.mp4").unlink(), {}, "even/video05.mp4 is gone"),
        (lambda folder: (folder / "odd/a.mp4").write_text("x"), {}, "odd/a.mp4 is new"),
        (lambda folder: longer(folder / "odd/video01.mp4"), {}, "odd/video01.mp4 changed"),
        (lambda folder: longer(folder / "even/video05.mp4"), {}, "the videos or their labels"),
    ],
)
def test_another_finished_set_is_refused_with_what_differs(
    videos, tmp_path, change, settings, said
):
    own = shutil.copytree(videos, tmp_path / "videos")
    pack_videos(own, tmp_path / "out")
    before = files_of(tmp_path / "out")
    if change:
        change(own)
    with pytest.raises(ShardError, match=rf"already holds shards: {said}.*\(--overwrite\)$"):
        pack_videos(own, tmp_path / "out", **settings)
    assert files_of(tmp_path / "out") == before


def test_of_settings_that_differ_the_users_own_is_named(videos, tmp_path):
    pack_videos(videos / "odd", tmp_path, recode=RecodeSettings(crf=20))
    with pytest.raises(ShardError, match=r"already holds shards: recode\.crf was 20 and is 30;"):
        pack_videos(videos / "odd", tmp_path, recode=RecodeSettings(crf=30))
    with pytest.raises(ShardError, match=r"already holds shards: recode was \{.*\} and is None;"):
        pack_videos(videos / "odd", tmp_path)


def test_a_set_of_unknown_origin_is_refused(videos, trajectory_folder, tmp_path):
    out = shutil.copytree(trajectory_folder, tmp_path / "out")
    with pytest.raises(ShardError, match="it is not said from what they were packed"):
        pack_videos(videos, out)
    (out / "index.json").unlink()
    with pytest.raises(ShardError, match="already holds shards"):
        pack_videos(videos, out)


def test_a_finished_set_that_lost_a_shard_is_no_finished_set(videos, tmp_path):
    pack_videos(videos, tmp_path, samples_per_shard=2)
    (tmp_path / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match="is in the index but missing"):
        pack_videos(videos, tmp_path, samples_per_shard=2)


def test_old_shards_live_until_the_new_ones_are_complete(half_packed, videos, tmp_path):
    old = tmp_path / "set"
    pack_videos(videos / "odd", old)
    before = files_of(old)
    half_pack(videos, old, samples_per_shard=2, overwrite=True)
    after = files_of(old)
    assert {name: after[name] for name in before} == before
    with pytest.raises(ShardError, match="already holds shards"):
        pack_videos(videos, old, samples_per_shard=2)
    assert pack_videos(videos, old, samples_per_shard=2, overwrite=True).num_samples == 12


@needs_posix
def test_a_second_pack_into_the_same_folder_is_refused(half_packed):
    import fcntl

    videos, out = half_packed
    with (out / ".packing/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ShardError, match="another process is writing to"):
            pack_videos(videos, out, samples_per_shard=2)
    pack_videos(videos, out, samples_per_shard=2)


def test_a_failing_worker_stops_the_others_and_is_named(videos, tmp_path, monkeypatch):
    from data_pipelines import shard_jobs

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_jobs, "replace_durably", fail)
    with pytest.raises(OSError, match="No space left"):
        pack_videos(videos, tmp_path / "out", samples_per_shard=2, num_workers=2)
    monkeypatch.undo()
    assert pack_videos(videos, tmp_path / "out", samples_per_shard=2).num_samples == 12


def test_a_list_of_videos_is_packed_with_its_labels(videos, tmp_path):
    lines = [f"{videos}/odd/video01.mp4 7", f"{videos}/even/video02.mp4 8"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    index = pack_videos(tmp_path / "list.csv", tmp_path / "out").index
    assert {s.key: s.label for s in index.samples} == {"even/video02": "8", "odd/video01": "7"}
    about = json.loads((tmp_path / "out/index.json").read_text())
    assert about["shards"][0]["samples"][0]["source"] == "even/video02.mp4"


def listed_on(store, folder, path, *, only=None):
    """Writes a list of the URLs of a folder's videos; they have no labels, unlike a folder's."""
    names = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.mp4"))
    rows = [f"{store.url}/{name},{name.partition('/')[0]}" for name in names[:only]]
    path.write_text("\n".join(["path,label", *rows]))
    return path


def test_a_copy_from_a_store_asks_twice_for_a_size_and_once_for_the_bytes(
    videos, uninterrupted, tmp_path, web_store
):
    store = web_store(videos)
    source = listed_on(store, videos, tmp_path / "list.csv")
    pack_videos(source, tmp_path / "out", samples_per_shard=2)
    for name in ("shard-000000.tar", "shard-000003.tar"):
        assert (tmp_path / "out" / name).read_bytes() == (uninterrupted[0] / name).read_bytes()
    path = "odd/video01.mp4"
    last = (videos / path).stat().st_size - 1
    asked = [(one.first, one.last) for one in store.requests if one.name == path]
    assert asked == [(0, 0), (0, last), (0, 0)]


@pytest.mark.parametrize("fails", ["bytes", "size afterwards"])
def test_a_store_that_is_out_of_reach_for_a_while_loses_no_video_and_no_shard(
    videos, tmp_path, web_store, monkeypatch, capsys, fails
):
    monkeypatch.setattr("data_pipelines.remote_files.time.sleep", lambda seconds: None)
    store, seen = web_store(videos), []

    def fault_of(request):
        if request.name != "even/video06.mp4":
            return None
        seen.append(request)
        is_size = (request.first, request.last) == (0, 0)
        return "503" if len(seen) > 1 and is_size == (fails == "size afterwards") else None

    store.fault_of = fault_of
    source = listed_on(store, videos, tmp_path / "list.csv")
    words = ["pack", str(source), str(tmp_path / "out"), "--samples-per-shard", "2"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "even/video06.mp4: status 503" in said and "run again to go on" in said
    assert "changed" not in said and "--overwrite" not in said
    done = {path.stat().st_ino for path in (tmp_path / "out/.packing").glob("shard-*.tar")}
    assert len(done) >= 2
    store.fault_of = None
    assert main(words) == 0
    index = ShardIndex.load(tmp_path / "out")
    assert index.num_samples == 12 and len(index.skipped) == 2
    assert done <= {path.stat().st_ino for path in (tmp_path / "out").glob("shard-*.tar")}


def test_what_a_store_refuses_for_good_is_left_out_and_named(videos, tmp_path, web_store):
    store = web_store(videos)
    store.fault_of = lambda request: "403" if request.name == "even/video02.mp4" else None
    source = listed_on(store, videos, tmp_path / "list.csv", only=4)
    for number, recode in enumerate((None, RecodeSettings(short_side=16))):
        index = pack_videos(source, tmp_path / str(number), recode=recode).index
        reasons = {video.path: video.reason for video in index.skipped}
        assert reasons.keys() == {"video02.mp4", "video05.mp4"}  # the other one is words
        assert "status 403" in reasons["video02.mp4"] and index.num_samples == 2


def test_a_video_that_is_removed_while_it_is_packed_is_said(videos, tmp_path, monkeypatch):
    from data_pipelines.isolated_probe import ProbeProcess

    own, read_row = shutil.copytree(videos, tmp_path / "videos"), ProbeProcess.read_row

    def remove(probe, path, data):
        (own / path).unlink()
        return read_row(probe, path, data)

    monkeypatch.setattr(ProbeProcess, "read_row", remove)
    with pytest.raises(ShardError, match=r"even/video00\.mp4 was removed while it was packed"):
        pack_videos(own, tmp_path / "out")


def test_parts_that_reach_beyond_their_video_are_named_and_poor_ones_left_out(
    video_folder, tmp_path, capsys
):
    """The video has 21 frames at 10 per second."""
    path = video_folder / "odd/video01.mp4"
    parts = ["0.5,1.5", "1,2.1", "1,2.11", "1.5,9", "1.2,1.1", "5,7"]
    rows = "\n".join(f"{path},{part}" for part in parts)
    (tmp_path / "list.csv").write_text(f"path,start,end\n{rows}\n")
    words = ["pack", str(tmp_path / "list.csv"), str(tmp_path / "out"), "--gop", "4"]
    for _ in range(2):  # and when there is nothing to do
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "shortened: 2 parts reach beyond the end of their video: " in said
        assert "video01.mp4[1-2.11] has 1.10 s of 1.11 s; " in said
        assert "video01.mp4[1.5-9] has 0.60 s of 7.5 s\n" in said
    index = ShardIndex.load(tmp_path / "out")
    reasons = {video.path: video.reason for video in index.skipped}
    assert index.num_samples == 4 and reasons == {
        "video01.mp4[1.2-1.1]": "the part asked for ends at 1.1 s, which is not after its start at "
        "1.2 s",
        "video01.mp4[5-7]": "nothing between 5 s and its end: it lasts 2.10 s",
    }


def test_parts_a_hundredth_of_a_second_apart_are_two_samples(video_folder, tmp_path):
    path = video_folder / "odd/video01.mp4"
    text = f"path,start,end\n{path},0.10000001,1\n{path},0.10000002,1\n{path},0.10000002,1\n"
    (tmp_path / "list.csv").write_text(text)
    result = pack_videos(tmp_path / "list.csv", tmp_path / "out", recode=RecodeSettings())
    assert result.num_samples == 2
    assert result.remarks == ("listed twice, taken once: 1 lines, first video01.mp4[0.10000002-1]",)


def test_files_of_other_types_are_counted_when_a_folder_is_packed(videos, tmp_path, capsys):
    own = shutil.copytree(videos / "odd", tmp_path / "videos")
    (own / "notes.txt").write_text("words")
    assert main(["pack", str(own), str(tmp_path / "out")]) == 0
    assert "left out: 1 files of other types (.txt 1)\n" in capsys.readouterr().out
