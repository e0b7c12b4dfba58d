import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.converting import convert_shards
from data_pipelines.decoders.base import decoder_class
from data_pipelines.recoding import RecodeSettings
from data_pipelines.sample_copying import Layout
from data_pipelines.samples import ACTIONS, STATES
from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import pack_trajectories
from data_pipelines.tar_headers import ShardError

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_tar(path, files):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def frames_in(data):
    with decoder_class("pyav")(data, "video") as video:
        return video.frames_at(range(len(video.timestamps_seconds()))).pixels


@pytest.fixture
def foreign(video_folder, tmp_path):
    """A tar as others write it: captions, classes, a JSON of their own, no index."""
    videos = [(video_folder / f"odd/video0{n}.mp4").read_bytes() for n in (1, 3, 5)]
    files = {
        "clip 1.mp4": videos[0],
        "clip 1.txt": b"a cat",
        "clip 1.json": json.dumps({"caption": "a cat", "label": 4, "sample": "theirs"}).encode(),
        "sub/clip2.mp4": videos[1],
        "sub/clip2.cls": b"7\n",
        "clip3.json": json.dumps({"label": "dog", "group": "day 1", "source": "x/y.avi"}).encode(),
        "clip3.mp4": videos[2],
        "broken.mp4": b"words",
        "../../escape.mp4": videos[0],
    }
    (tmp_path / "foreign").mkdir()
    write_tar(
        tmp_path / "foreign/part0.tar", {n: d.replace(b"\\\\n", b"") for n, d in files.items()}
    )
    return tmp_path / "foreign"


def test_foreign_tars_become_shards_with_an_index(foreign, video_folder, tmp_path):
    result = convert_shards(foreign, tmp_path / "out")
    samples = {sample.key: sample for sample in ShardIndex.load(tmp_path / "out").samples}
    assert list(samples) == ["clip_1", "sub/clip2", "clip3"]
    assert [sample.label for sample in samples.values()] == ["4", "7", "dog"]
    assert (samples["clip3"].group, samples["clip3"].source) == ("day 1", "x/y.avi")
    assert [sample.metadata.num_frames for sample in samples.values()] == [21, 23, 25]
    reader = ShardReader()
    original = (video_folder / "odd/video01.mp4").read_bytes()
    assert reader.read(samples["clip_1"], "mp4") == original
    assert reader.read(samples["clip_1"], "txt") == b"a cat"
    about = json.loads(reader.read(samples["clip_1"], "json"))
    assert about["caption"] == "a cat" and about["sample"] == "theirs" and about["label"] == "4"
    skipped = {video.path: video.reason for video in result.skipped}
    assert skipped.keys() == {"broken", "../../escape"}
    assert skipped["broken"].startswith("not a video")
    assert skipped["../../escape"].startswith("its key leads out of its folder")
    assert check_shards(tmp_path / "out", full=True).problems == ()


def test_shards_of_ours_are_copied_with_all_their_bytes(shard_folder, tmp_path):
    index = convert_shards(shard_folder, tmp_path, layout=Layout(samples_per_shard=5)).index
    old = ShardIndex.load(shard_folder)
    reader = ShardReader()
    for before, after in zip(old.samples, index.samples, strict=True):
        assert (before.key, before.label, before.source) == (after.key, after.label, after.source)
        for name in before.members:
            assert reader.read(before, name) == reader.read(after, name)


def test_videos_are_encoded_anew_at_another_rate_and_size(shard_folder, index_of, tmp_path):
    settings = RecodeSettings(frames_per_second="5", short_side=32, keyframe_interval=4)
    index = convert_shards(shard_folder, tmp_path, recode=settings, num_workers=2).index
    reader = ShardReader()
    for before, after in zip(ShardIndex.load(shard_folder).samples, index.samples, strict=True):
        assert before.key == after.key and before.label == after.label
        assert after.metadata.height == 32
        assert after.metadata.frames_per_second == pytest.approx(5)
        frames = frames_in(reader.read(after, "mp4"))
        assert after.metadata.num_frames == len(frames) == -(-before.metadata.num_frames // 2)
        assert index_of(frames, (1, 2, 3)).tolist() == list(range(0, before.metadata.num_frames, 2))
        about = json.loads(reader.read(after, "json"))
        assert about["original"]["num_frames"] == before.metadata.num_frames
        assert about["recoded"]["short_side"] == 32 and about["source"] == before.source


def test_the_number_of_workers_does_not_change_a_byte(shard_folder, tmp_path):
    for workers in (1, 3):
        convert_shards(
            shard_folder / "shard-000001.tar",
            tmp_path / str(workers),
            recode=RecodeSettings(short_side=16),
            num_workers=workers,
            layout=Layout(samples_per_shard=2),
        )
    assert files_of(tmp_path / "1") == files_of(tmp_path / "3")


def test_trajectories_keep_their_frames_states_and_actions(
    specification, episode, index_frames, index_of, tmp_path
):
    clear = index_frames(60)[::3]  # 12 grey levels apart: encoding twice blurs less than half of it
    episodes = (replace(episode(number), frames=clear) for number in range(2))
    pack_trajectories(episodes, tmp_path / "in", specification=specification)
    settings = RecodeSettings(short_side=32)
    index = convert_shards(tmp_path / "in", tmp_path / "out", recode=settings).index
    old, reader = ShardIndex.load(tmp_path / "in"), ShardReader()
    assert index.specification == old.specification and index.statistics == old.statistics
    for before, after in zip(old.samples, index.samples, strict=True):
        for name in (STATES, ACTIONS):
            assert reader.read(before, name) == reader.read(after, name)
        frames = frames_in(reader.read(after, "mp4"))
        assert frames.shape[1:3] == (32, 42)
        thirds = index_of(frames, (1, 2, 3)) / 3
        assert np.rint(thirds).tolist() == list(range(20)), "frame t has state t"
    (tmp_path / "out/index.json").unlink()
    assert ShardIndex.load(tmp_path / "out").specification == old.specification


@pytest.mark.parametrize(
    ("recode", "said"),
    [
        (RecodeSettings(frames_per_second="5"), "--fps would change the frames of trajectories"),
        (RecodeSettings(split_scenes=20.0), "--split-scenes would tear trajectories"),
    ],
)
def test_trajectories_may_not_change_their_times(trajectory_folder, tmp_path, recode, said):
    with pytest.raises(ValueError, match=said):
        convert_shards(trajectory_folder, tmp_path / "out", recode=recode)
    assert not (tmp_path / "out").exists()


def test_a_trajectory_with_a_frame_too_few_is_skipped(trajectory_folder, video_folder, tmp_path):
    reader, files = ShardReader(), {}
    for sample in ShardIndex.load(trajectory_folder).samples[:2]:
        files |= {f"{sample.key}.{name}": reader.read(sample, name) for name in sample.members}
    files["episode01.mp4"] = (video_folder / "odd/video01.mp4").read_bytes()  # of 21 frames
    write_tar(tmp_path / "x.tar", files)
    result = convert_shards(tmp_path / "x.tar", tmp_path / "out")
    assert [(v.path, v.reason) for v in result.skipped] == [
        ("episode01", "21 frames and 20 states")
    ]
    np.testing.assert_allclose(result.index.statistics.state_mean, [9.5, 0.0])  # of episode00 only


def test_scenes_of_a_video_share_a_group(tmp_path, index_frames):
    from data_pipelines.video_writing import encode_mp4

    frames = np.concatenate([index_frames(8) // 4, 255 - index_frames(8) // 4])
    write_tar(tmp_path / "x.tar", {"film.mp4": encode_mp4(frames, frames_per_second=8)})
    settings = RecodeSettings(split_scenes=60.0)
    index = convert_shards(tmp_path / "x.tar", tmp_path / "out", recode=settings).index
    assert [(s.key, s.group, s.metadata.num_frames) for s in index.samples] == [
        ("film-scene000", "film", 8),
        ("film-scene001", "film", 8),
    ]


def test_a_set_without_a_good_video_is_an_error_and_leaves_nothing(tmp_path):
    write_tar(tmp_path / "x.tar", {"a.mp4": b"words", "b.mp4": b""})
    with pytest.raises(ValueError, match=r"2 of 2 skipped; first: a: not a video"):
        convert_shards(tmp_path / "x.tar", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_key_of_two_sets_is_refused(shard_folder, tmp_path):
    shutil.copytree(shard_folder, tmp_path / "twin")
    with pytest.raises(ShardError, match=r"key 'even/video00' is in .*merge the sets first"):
        convert_shards([shard_folder, tmp_path / "twin"], tmp_path / "out")


@needs_posix
def test_a_conversion_that_is_killed_goes_on_and_gives_the_same_bytes(shard_folder, tmp_path):
    source = shard_folder / "shard-000000.tar"
    program = [sys.executable, "-m", "data_pipelines", "convert", str(source)]
    options = ["--short-side", "16", "--samples-per-shard", "1", "--decoder", "pyav"]
    out = tmp_path / "killed"
    process = subprocess.Popen([*program, str(out), *options], start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(out.glob(".packing/*.tar.json"))) < 2:  # two of five shards are written
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in out.glob(".packing/shard-*.tar")}
    assert not (out / "index.json").exists() and len(written) < 5
    assert subprocess.run([*program, str(out), *options]).returncode == 0
    for path, changed in written.items():
        assert (out / path.name).stat().st_mtime_ns == changed, "a finished shard is not rewritten"
    convert_shards(
        source,
        tmp_path / "whole",
        recode=RecodeSettings(short_side=16),
        decoder="pyav",
        layout=Layout(samples_per_shard=1),
    )
    assert files_of(out) == files_of(tmp_path / "whole")
