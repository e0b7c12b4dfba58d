import json
import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines import window_statistics
from data_pipelines.action_windows import ActionWindows
from data_pipelines.merging import merge_shards
from data_pipelines.sample_copying import Layout
from data_pipelines.shard_index import INDEX_NAME, ShardIndex
from data_pipelines.shards import pack_trajectories
from data_pipelines.tar_headers import ShardError
from data_pipelines.window_statistics import statistics_of_windows, statistics_path


@pytest.fixture
def folder(trajectory_folder, tmp_path):
    return shutil.copytree(trajectory_folder, tmp_path / "set")


@pytest.fixture
def index(folder):
    return ShardIndex.load(folder)


def summed(index, stride=2):
    settings = {"mode": "repeat", "frame_stride": stride, "reduction": "sum"}
    return ActionWindows(index.specification, 3, **settings)


def files(folder):
    return sorted(path.name for path in folder.glob("*statistics-*"))


def test_they_are_computed_once_and_kept_beside_the_data(index, folder, monkeypatch):
    """Two actions t + 0.5 and t + 1.5 sum to 2 t + 2, for t = 0 to 17."""
    first = statistics_of_windows(index, summed(index))
    sums = 2 * np.arange(18) + 2
    assert first.action_mean == pytest.approx([sums.mean()])
    assert first.action_std == pytest.approx([sums.std()])
    assert (first.action_min, first.action_max) == ((2,), (36,))
    assert first.state_mean == pytest.approx(index.statistics.state_mean)
    assert files(folder) == [statistics_path(index, summed(index)).name]
    monkeypatch.setattr(window_statistics, "ShardReader", None)  # a second pass would fail
    assert statistics_of_windows(ShardIndex.load(folder), summed(index)) == first


def test_no_file_is_needed_where_the_index_says_enough(index, folder):
    recorded = ActionWindows(index.specification, 3)
    assert statistics_of_windows(index, recorded) == index.statistics
    joined = ActionWindows(index.specification, 3, mode="concatenate", frame_stride=2)
    assert statistics_of_windows(index, joined).action_mean == index.statistics.action_mean * 2
    assert files(folder) == []


def test_an_index_that_was_packed_before_extremes_were_kept_serves_as_before(folder, index):
    path = folder / INDEX_NAME
    values = json.loads(path.read_text())
    new = [key for key in values["statistics"] if not key.endswith(("mean", "std"))]
    assert len(new) == 8
    for key in new:
        del values["statistics"][key]
    path.write_text(json.dumps(values))
    old = ShardIndex.load(folder)
    joined = ActionWindows(old.specification, 3, mode="concatenate", frame_stride=2)
    statistics = statistics_of_windows(old, joined)
    assert statistics.action_std == index.statistics.action_std * 2
    assert (statistics.action_min, statistics.state_quantile_01) == ((), ())
    assert statistics_of_windows(old, summed(old)).action_max == (36,)


def test_other_windows_and_other_data_have_other_files(
    index, folder, episode, specification, tmp_path
):
    statistics_of_windows(index, summed(index, 2))
    statistics_of_windows(index, summed(index, 3))
    assert len(files(folder)) == 2
    other = episode(0)
    other.actions[0] += 1  # the same sizes, another number
    pack_trajectories([other], tmp_path / "a", specification=specification)
    pack_trajectories([episode(0)], tmp_path / "b", specification=specification)
    names = {statistics_path(ShardIndex.load(tmp_path / n), summed(index)).name for n in "ab"}
    assert len(names) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: "{",
        lambda values: "[1]",
        lambda values: json.dumps({**values, "version": 0}),
        lambda values: json.dumps({**values, "data": "other"}),
        lambda values: json.dumps({**values, "statistics": {"state_mean": [1.0]}}),
    ],
)
def test_a_file_that_is_damaged_or_of_other_data_is_made_again(index, damage, caplog):
    first = statistics_of_windows(index, summed(index))
    path = statistics_path(index, summed(index))
    path.write_text(damage(json.loads(path.read_text())))
    assert statistics_of_windows(index, summed(index)) == first
    assert "is computed again" in caplog.text
    caplog.clear()
    assert statistics_of_windows(index, summed(index)) == first
    assert caplog.text == ""


def test_a_folder_that_cannot_be_written_to_costs_one_line_of_the_log(
    index, folder, caplog, monkeypatch
):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "replace", refuse)  # the tests may run as root, who may write anywhere
    statistics = statistics_of_windows(index, summed(index))
    assert statistics.action_max == (36,)
    assert len(caplog.records) == 1 and "not kept for the next run" in caplog.text
    assert files(folder) == []  # nothing half-made either


def test_shards_without_checksums_are_counted_anew_every_time(folder, caplog):
    (folder / INDEX_NAME).unlink()
    index = ShardIndex.load(folder)
    with caplog.at_level(logging.INFO):
        assert statistics_of_windows(index, summed(index)).action_max == (36,)
    assert "not kept" in caplog.text and files(folder) == []


def test_remote_shards_have_no_folder_to_keep_them_in(index):
    shards = [replace(shard, path=f"https://example.org/set/{n}.tar") for n, shard in
              enumerate(index.shards)]  # fmt: skip
    assert statistics_path(replace(index, shards=tuple(shards)), summed(index)) is None
    assert statistics_path(index, summed(index)) is not None


def test_statistics_of_data_that_are_replaced_go_with_them(index, folder, episode, specification):
    statistics_of_windows(index, summed(index))
    (folder / "statistics-mine.json").write_text("somebody else's")
    assert len(files(folder)) == 2
    episodes = [episode(number) for number in (7, 8)]
    pack_trajectories(episodes, folder, specification=specification, overwrite=True)
    assert files(folder) == ["statistics-mine.json"]


def test_a_merge_that_replaces_a_set_removes_its_statistics(folder, trajectory_folder, tmp_path):
    out, overwrite = tmp_path / "out", Layout(overwrite=True)
    new = merge_shards(trajectory_folder, out).index
    statistics_of_windows(new, summed(new))
    assert len(files(out)) == 1
    merge_shards(folder, out, layout=overwrite)
    assert files(out) == []


def test_a_trajectory_that_cannot_be_read_is_left_out_and_nothing_is_kept(index, folder, caplog):
    place = index.samples[0].members["actions.npy"]
    shard = folder / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[place.offset + place.size - 1] ^= 0xFF
    shard.write_bytes(data)
    statistics = statistics_of_windows(index, summed(index))
    assert statistics.state_min[1] == 1  # episode 0 is missing
    assert "leave out 1 of 6 trajectories; the first: " in caplog.text
    assert files(folder) == []


def test_actions_that_differ_are_refused_before_the_first_step(index):
    windows = ActionWindows(index.specification, 3, mode="repeat", frame_stride=2)
    with pytest.raises(ValueError, match=r"trajectory 'episode00': step is 0\.5 and 1\.5"):
        statistics_of_windows(index, windows)


def test_videos_have_no_statistics(shard_folder, index):
    with pytest.raises(ShardError, match="holds no trajectories"):
        statistics_of_windows(ShardIndex.load(shard_folder), summed(index))
