import json
import os
from dataclasses import replace

import numpy as np
import pytest
import webdataset

from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import key_of_path, pack_trajectories, pack_videos
from data_pipelines.tar_headers import ShardError


def read_with_webdataset(folder):
    shards = sorted(str(path) for path in folder.glob("shard-*.tar"))
    return {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False)}


def test_webdataset_reads_the_shards_back_bytes_unchanged(shard_folder, video_folder):
    samples = read_with_webdataset(shard_folder)
    assert len(samples) == 12
    for key, sample in samples.items():
        about = json.loads(sample["json"])
        original = (video_folder / about["source"]).read_bytes()
        assert sample["mp4"] == original and about["num_bytes"] == len(original)
        assert about["num_frames"] == 20 + int(key[-2:])
        assert about["label"] in ("even", "odd")


def test_packing_twice_gives_the_same_bytes(shard_folder, video_folder, tmp_path):
    pack_videos(video_folder, tmp_path, samples_per_shard=5)
    for path in sorted(shard_folder.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_bad_video_is_left_out_counted_and_named(video_folder, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.mp4").write_bytes((video_folder / "odd/video01.mp4").read_bytes())
    (tmp_path / "in/bad.mp4").write_text("words")
    result = pack_videos(tmp_path / "in", tmp_path / "out")
    assert result.num_samples == 1
    assert [video.path for video in result.skipped] == ["bad.mp4"]
    assert ShardIndex.load(tmp_path / "out") == result.index


def test_only_bad_videos_are_an_error_and_leave_no_shard(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / f"in/{name}.mp4").write_text("words")
    with pytest.raises(ValueError, match=r"2 of 2 skipped; first: a\.mp4: not a video"):
        pack_videos(tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_shards_are_closed_before_they_grow_too_large(video_folder, tmp_path):
    result = pack_videos(video_folder, tmp_path, max_shard_bytes=4000)
    for shard in result.index.shards:
        num_bytes = sum(m.size for sample in shard.samples for m in sample.members.values())
        assert num_bytes <= 4000 or len(shard.samples) == 1
    assert len(result.index.shards) > 3 and result.num_samples == 12


def test_shards_are_not_overwritten_unless_asked(video_folder, tmp_path):
    pack_videos(video_folder, tmp_path, samples_per_shard=2)
    with pytest.raises(ShardError, match=r"already holds shards: .*--overwrite"):
        pack_videos(video_folder, tmp_path)
    pack_videos(video_folder, tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "shard-000000.tar"]
    assert ShardIndex.load(tmp_path).num_samples == 12


def test_a_failure_leaves_the_old_shards_as_they_were(episode, specification, tmp_path):
    def episodes():
        yield episode(7)
        raise RuntimeError("the simulator died")

    pack_trajectories([episode(1)], tmp_path, specification=specification)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="simulator"):
        pack_trajectories(
            episodes(), tmp_path, specification=specification, samples_per_shard=1, overwrite=True
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_trajectories_read_back_as_they_were(trajectory_folder, episode, specification):
    index, reader = ShardIndex.load(trajectory_folder), ShardReader()
    assert index.specification == specification and index.num_samples == 6
    for number, sample in enumerate(index.samples):
        original = episode(number)
        assert sample.key == original.key and sample.group == original.group
        np.testing.assert_array_equal(reader.read_array(sample, "states.npy"), original.states)
        np.testing.assert_array_equal(reader.read_array(sample, "actions.npy"), original.actions)
    members = read_with_webdataset(trajectory_folder)["episode03"]
    assert {"mp4", "json", "states.npy", "actions.npy"} <= set(members)


def test_statistics_are_those_of_all_rows_together(trajectory_folder, episode):
    statistics = ShardIndex.load(trajectory_folder).statistics
    states = np.concatenate([episode(n).states for n in range(6)]).astype(np.float64)
    actions = np.concatenate([episode(n).actions for n in range(6)]).astype(np.float64)
    np.testing.assert_allclose(statistics.state_mean, states.mean(0))
    np.testing.assert_allclose(statistics.state_std, states.std(0))
    np.testing.assert_allclose(statistics.action_mean, actions.mean(0))
    np.testing.assert_allclose(statistics.action_std, actions.std(0))


def test_an_episode_that_does_not_fit_is_refused(episode, specification, tmp_path):
    bad = replace(episode(0), actions=episode(0).states)
    with pytest.raises(ValueError, match=r"'episode00': actions must be \(19, 1\), got \(20, 2\)"):
        pack_trajectories([bad], tmp_path, specification=specification)
    with pytest.raises(ShardError, match="'episode00' comes twice"):
        pack_trajectories([episode(0), episode(0)], tmp_path, specification=specification)
    with pytest.raises(ShardError, match=r"key '\.\./x' .* characters other than"):
        pack_trajectories([replace(episode(0), key="../x")], tmp_path, specification=specification)
    with pytest.raises(ValueError, match="no episode to pack"):
        pack_trajectories([], tmp_path, specification=specification)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_plain_and_never_collide():
    paths = ["a b.mp4", "a_b.mp4", "a_b.webm", "../up.mp4", "x" * 300 + ".mp4", "é.mp4", "c.d.mp4"]
    taken: set[str] = set()
    for path in paths:
        taken.add(key_of_path(path, taken=taken))
    assert len(taken) == len(paths)
    assert all(key.isascii() and "." not in key and len(key) <= 95 for key in taken)
    assert key_of_path("cats/tom.mp4", taken=set()) == "cats/tom"


def test_an_output_that_cannot_be_written_is_said_before_the_work(video_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        pack_videos(video_folder, tmp_path / "file")
