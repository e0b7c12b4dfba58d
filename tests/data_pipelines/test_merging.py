import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.merging import merge_shards
from data_pipelines.sample_copying import Layout
from data_pipelines.shard_check import check_shards
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.tar_headers import ShardError


def contents(folder):
    reader = ShardReader()
    return {
        sample.key: {name: reader.read(sample, name) for name in sample.members}
        for sample in ShardIndex.load(folder).samples
    }


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def two_sets(video_folder, tmp_path_factory):
    """The videos of each class folder as a set; the first one skipped a bad one."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(video_folder, folder / "videos")
    (folder / "videos/even/zz.mp4").write_text("words")
    for label in ("even", "odd"):
        pack_videos(folder / "videos" / label, folder / label, samples_per_shard=4)
    return folder / "even", folder / "odd"


def test_a_merged_set_has_all_samples_with_their_bytes_in_even_shards(two_sets, tmp_path):
    result = merge_shards(two_sets, tmp_path, layout=Layout(samples_per_shard=5))
    assert contents(tmp_path) == contents(two_sets[0]) | contents(two_sets[1])
    assert result.index.samples_per_shard == [4, 4, 4]
    assert [s.key for s in result.index.samples] == [
        s.key for place in two_sets for s in ShardIndex.load(place).samples
    ]
    assert check_shards(tmp_path).problems == ()
    assert [video.path for video in result.index.skipped] == ["zz.mp4"]
    assert result.skipped == (), "that one was not skipped now"


def test_merging_twice_gives_the_same_bytes(two_sets, tmp_path):
    for name in "ab":
        merge_shards(two_sets, tmp_path / name)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_shards_are_closed_before_they_grow_too_large(two_sets, tmp_path):
    result = merge_shards(two_sets, tmp_path, layout=Layout(max_shard_bytes=8000))
    for shard in result.index.shards:
        num_bytes = sum(m.size for sample in shard.samples for m in sample.members.values())
        assert num_bytes <= 8000 or len(shard.samples) == 1
    assert len(result.index.shards) > 1


def test_a_key_of_two_sets_is_refused_and_both_are_named(shard_folder, tmp_path):
    shutil.copytree(shard_folder, tmp_path / "twin")
    said = rf"key 'even/video00' is in {shard_folder}/.* and in .*twin/shard-000000.tar; --prefix"
    with pytest.raises(ShardError, match=said):
        merge_shards([shard_folder, tmp_path / "twin"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prefixes_keep_keys_and_groups_of_sets_apart(trajectory_folder, tmp_path):
    for name in ("left", "right"):
        shutil.copytree(trajectory_folder, tmp_path / name)
    places = [tmp_path / "left", tmp_path / "right"]
    index = merge_shards(places, tmp_path / "out", prefix_keys=True).index
    assert [s.key for s in index.samples][::6] == ["left/episode00", "right/episode00"]
    assert {s.group for s in index.samples} == {
        f"{name}/group{number}" for name in ("left", "right") for number in (0, 1)
    }
    (tmp_path / "out/index.json").unlink()  # the tars say the same
    walked = ShardIndex.load(tmp_path / "out")
    assert [(s.key, s.group) for s in walked.samples] == [(s.key, s.group) for s in index.samples]


def test_sets_of_one_name_cannot_be_told_apart_by_it(shard_folder, tmp_path):
    for parent in "ab":
        shutil.copytree(shard_folder, tmp_path / parent / "train")
    with pytest.raises(ShardError, match="2 sets are named 'train'"):
        merge_shards([tmp_path / "a/train", tmp_path / "b/train"], tmp_path / "o", prefix_keys=True)


def test_statistics_of_merged_trajectories_are_those_of_all_episodes(
    specification, episode, tmp_path
):
    for name, numbers in {"a": range(2), "b": range(5, 10)}.items():
        episodes = (episode(number, 8) for number in numbers)
        pack_trajectories(episodes, tmp_path / name, specification=specification)
    index = merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "out").index
    numbers = np.array([0, 1, 5, 6, 7, 8, 9])
    np.testing.assert_allclose(index.statistics.state_mean, [3.5, numbers.mean()])
    np.testing.assert_allclose(index.statistics.state_std, [np.arange(8).std(), numbers.std()])
    assert ShardIndex.load(tmp_path / "out").statistics == index.statistics


def test_trajectories_of_other_meaning_are_refused_with_the_difference(
    specification, episode, trajectory_folder, shard_folder, tmp_path
):
    other = replace(specification, action_units=("radians",))
    pack_trajectories([episode(9)], tmp_path / "other", specification=other)
    with pytest.raises(ShardError, match=r"action_units is \('frames',\) in .*, \('radians',\) in"):
        merge_shards([trajectory_folder, tmp_path / "other"], tmp_path / "out")
    with pytest.raises(ShardError, match=r"trajectories.* holds trajectories and .* holds videos"):
        merge_shards([shard_folder, trajectory_folder], tmp_path / "out")


def test_whole_shards_are_taken_under_new_names(two_sets, tmp_path):
    result = merge_shards(two_sets, tmp_path / "out", copy_shards=True)
    old = [shard for place in two_sets for shard in ShardIndex.load(place).shards]
    assert [os.path.basename(s.path) for s in result.index.shards] == [
        f"shard-{number:06d}.tar" for number in range(4)
    ]
    for shard, before in zip(result.index.shards, old, strict=True):
        assert shard.sha256 == before.sha256
        assert os.path.samefile(shard.path, before.path)
    assert check_shards(tmp_path / "out").problems == ()
    assert contents(tmp_path / "out") == contents(two_sets[0]) | contents(two_sets[1])
    with pytest.raises(ShardError, match="--prefix-keys changes the shards"):
        merge_shards(two_sets, tmp_path / "more", copy_shards=True, prefix_keys=True)


def test_a_merge_into_one_of_its_sets_is_refused(two_sets, tmp_path):
    for out in (two_sets[0], two_sets[1] / "below"):
        with pytest.raises(ShardError, match="is, or lies in, the set"):
            merge_shards(two_sets, out)
    link = tmp_path / "link"
    link.symlink_to(two_sets[0])
    with pytest.raises(ShardError, match="is, or lies in, the set"):
        merge_shards(two_sets, link)


def test_other_shards_are_replaced_on_demand_only(two_sets, shard_folder, tmp_path):
    shutil.copytree(shard_folder, tmp_path / "out")
    with pytest.raises(ShardError, match=r"already holds shards.*--overwrite"):
        merge_shards(two_sets, tmp_path / "out")
    merge_shards(two_sets, tmp_path / "out", layout=Layout(overwrite=True))
    assert sorted(files_of(tmp_path / "out")) == ["index.json", "shard-000000.tar"]
    assert merge_shards(two_sets, tmp_path / "out").was_there
