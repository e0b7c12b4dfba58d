import json
import shutil
from pathlib import Path

import pytest

from data_pipelines.shard_index import ShardIndex
from data_pipelines.tar_headers import ShardError


@pytest.fixture
def copied(shard_folder, tmp_path):
    return Path(shutil.copytree(shard_folder, tmp_path / "shards"))


def keys(index):
    return [sample.key for sample in index.samples]


def test_the_index_tells_shards_samples_and_hours(shard_folder):
    index = ShardIndex.load(shard_folder)
    assert index.samples_per_shard == [5, 5, 2] and index.num_samples == 12
    assert index.duration_seconds == pytest.approx(sum(range(20, 32)) / 10, abs=1e-3)
    assert index.samples[0].label == "even" and index.specification is None


def test_without_index_json_the_tars_are_walked(copied):
    before = ShardIndex.load(copied)
    (copied / "index.json").unlink()
    walked = ShardIndex.load(str(copied))
    assert keys(walked) == keys(before) and walked.fingerprint == before.fingerprint


def test_one_tar_is_its_part_of_the_index(shard_folder):
    part = ShardIndex.load(shard_folder / "shard-000001.tar")
    assert keys(part) == keys(ShardIndex.load(shard_folder))[5:10]
    assert part.samples[0].members["mp4"].crc32 is not None


def test_several_folders_are_joined(shard_folder, copied):
    joined = ShardIndex.load([str(shard_folder), str(copied)])
    assert joined.num_samples == 24 and joined.samples_per_shard == [5, 5, 2] * 2


def test_an_index_without_json_of_trajectories_finds_the_same_statistics(
    trajectory_folder, tmp_path
):
    copied = Path(shutil.copytree(trajectory_folder, tmp_path / "t"))
    before = ShardIndex.load(copied)
    (copied / "index.json").unlink()
    walked = ShardIndex.load(copied)
    assert walked.specification == before.specification is not None
    assert walked.statistics == before.statistics is not None


def test_joined_trajectories_have_joined_statistics(trajectory_folder, tmp_path):
    copied = Path(shutil.copytree(trajectory_folder, tmp_path / "t"))
    alone = ShardIndex.load(trajectory_folder)
    joined = ShardIndex.load([trajectory_folder, copied])
    assert joined.statistics.state_mean == pytest.approx(alone.statistics.state_mean)
    assert joined.statistics.action_std == pytest.approx(alone.statistics.action_std)


def test_videos_and_trajectories_do_not_go_together(shard_folder, trajectory_folder):
    with pytest.raises(ShardError, match="do not go together"):
        ShardIndex.load([shard_folder, trajectory_folder])


def test_the_fingerprint_changes_with_the_data(shard_folder, copied):
    whole = ShardIndex.load(shard_folder).fingerprint
    assert ShardIndex.load(copied).fingerprint == whole
    assert ShardIndex.load(copied / "shard-000000.tar").fingerprint != whole


def test_places_without_shards_are_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shard folder or \.tar at .*nowhere"):
        ShardIndex.load(tmp_path / "nowhere")
    with pytest.raises(ShardError, match=r"shard folder .* is empty"):
        ShardIndex.load(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ShardError, match=r"holds no \.tar and no index\.json"):
        ShardIndex.load(tmp_path)
    with pytest.raises(ShardError, match="no shards given"):
        ShardIndex.load([])


def test_a_missing_shard_is_named(copied):
    (copied / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.tar is in the index but missing"):
        ShardIndex.load(copied)


def test_a_shard_of_another_size_is_named(copied):
    with (copied / "shard-000002.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ShardError, match=r"shard-000002\.tar changed: \d+ bytes, the index says"):
        ShardIndex.load(copied)


def test_an_index_of_another_version_is_refused(copied):
    values = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(ShardError, match="version 99, this program reads 'video-shards' version 1"):
        ShardIndex.load(copied)


@pytest.mark.parametrize("damage", ["{", '{"format": "video-shards", "version": 1}', "[]"])
def test_a_damaged_index_is_refused(copied, damage):
    (copied / "index.json").write_text(damage)
    with pytest.raises(ShardError, match=r"index\.json"):
        ShardIndex.load(copied)


def test_an_index_may_not_point_out_of_its_folder(copied):
    text = (copied / "index.json").read_text()
    (copied / "index.json").write_text(text.replace("shard-000000.tar", "../../secret.tar"))
    with pytest.raises(ShardError, match="is a path"):
        ShardIndex.load(copied)


def test_a_shard_listed_twice_is_refused(shard_folder):
    with pytest.raises(ShardError, match=r"shard-000000\.tar is listed twice"):
        ShardIndex.load([shard_folder, shard_folder / "shard-000000.tar"])


def test_a_key_in_two_tars_is_refused(copied):
    (copied / "index.json").unlink()
    shutil.copy(copied / "shard-000000.tar", copied / "shard-000007.tar")
    with pytest.raises(ShardError, match="key 'even/video00' is in two shards"):
        ShardIndex.load(copied)
