import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines import lerobot_export
from data_pipelines.importers.lerobot import open_source
from data_pipelines.lerobot_export import export_lerobot
from data_pipelines.shards import ShardIndex, ShardReader, pack_trajectories
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION, moving_shape_episodes
from data_pipelines.tar_headers import ShardError

pq = pytest.importorskip("pyarrow.parquet")

SPECIFICATION = replace(
    MOVING_SHAPE_SPECIFICATION,
    frame="image",
    gripper="none",
    action_kind="pose difference",
    frames_per_second=12.5,
)


def shape_episodes(num_episodes=5, num_frames=9):
    for episode in moving_shape_episodes(num_episodes=num_episodes, num_frames=num_frames):
        length = num_frames - int(episode.key[-1]) % 3  # 9, 8, 7, 9, 8
        yield replace(
            episode,
            frames=episode.frames[:length],
            states=episode.states[:length],
            actions=episode.actions[: length - 1],
            frames_per_second=12.5,
        )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    pack_trajectories(shape_episodes(), out, specification=SPECIFICATION, samples_per_shard=2)
    return out


@pytest.fixture(scope="module")
def exported(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "set"
    export_lerobot(shards, out, robot_type="disc", task="move about")
    return out


def rows_of(folder, name):
    paths = sorted((folder / "data").rglob("*.parquet"))
    return np.concatenate(
        [np.array(pq.read_table(path).column(name).to_pylist()) for path in paths]
    )


@pytest.mark.parametrize(
    ("max_file_bytes", "files"),
    [(1 << 30, ["000/file-000"]), (1, ["000/file-000", "000/file-001", "001/file-000"])],
    ids=["one_file", "a_file_for_each"],
)
def test_what_is_exported_comes_back_the_same(shards, tmp_path, max_file_bytes, files):
    out = tmp_path / "set"
    export_lerobot(shards, out, max_file_bytes=max_file_bytes, files_per_chunk=2)
    videos = sorted((out / "videos/observation.images.camera").rglob("*.mp4"))
    found = [f"{path.parent.name[-3:]}/{path.stem}" for path in videos]
    assert found[: len(files)] == files and len(found) == (1 if len(files) == 1 else 5)
    source = open_source(out)
    assert source.specification == SPECIFICATION
    pairs = list(zip(shape_episodes(), source.episodes(), strict=True))
    for recorded, back in pairs:
        assert back.states.dtype == back.actions.dtype == np.float32
        np.testing.assert_array_equal(back.states, recorded.states)
        np.testing.assert_array_equal(back.actions, recorded.actions)
        difference = np.abs(back.frames.astype(float) - recorded.frames)
        assert difference.mean() < 4  # H.264, twice
        others = [abs(back.frames[0].astype(float) - o.frames[0]).mean() for o, _ in pairs]
        assert np.argmin(others) == int(back.key[-1])


def test_the_last_action_is_repeated_and_that_is_said(exported):
    actions, episodes = rows_of(exported, "action"), rows_of(exported, "episode_index")
    for number, recorded in enumerate(shape_episodes()):
        rows = actions[episodes == number]
        assert len(rows) == len(recorded.frames)
        np.testing.assert_array_equal(rows[-1], recorded.actions[-1].astype(np.float64))
    features = json.loads((exported / "meta/info.json").read_text())["features"]
    assert "repeats the action before it" in features["action"]["info"]["last_action"]


def test_info_and_episodes_say_where_everything_lies(exported):
    info = json.loads((exported / "meta/info.json").read_text())
    lengths = [9, 8, 7, 9, 8]
    assert info["codebase_version"] == "v3.0" and info["robot_type"] == "disc"
    assert (info["total_episodes"], info["total_frames"]) == (5, sum(lengths))
    assert info["fps"] == 12.5 and info["splits"] == {"train": "0:5"}
    assert info["features"]["observation.images.camera"]["shape"] == [64, 64, 3]
    assert info["features"]["observation.state"]["names"] == ["x", "y"]
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["length"] for row in rows] == lengths
    assert [row["dataset_from_index"] for row in rows] == [0, 9, 17, 24, 33]
    begins = [row["videos/observation.images.camera/from_timestamp"] for row in rows]
    np.testing.assert_allclose(begins, np.array([0, 9, 17, 24, 33]) / 12.5)
    assert {tuple(row["tasks"]) for row in rows} == {("move about",)}
    tasks = pq.read_table(exported / "meta/tasks.parquet").to_pylist()
    assert tasks == [{"task_index": 0, "task": "move about"}]


def test_counters_are_those_that_lerobot_counts(exported):
    assert rows_of(exported, "index").tolist() == list(range(41))
    frame_index = rows_of(exported, "frame_index")
    assert frame_index.tolist() == [k for length in (9, 8, 7, 9, 8) for k in range(length)]
    timestamps = rows_of(exported, "timestamp")
    np.testing.assert_allclose(timestamps, frame_index / 12.5, atol=1e-6)


def test_statistics_are_those_of_the_rows(exported):
    stats = json.loads((exported / "meta/stats.json").read_text())
    for name in ("observation.state", "action"):
        rows = rows_of(exported, name)
        for what, expected in (
            ("min", rows.min(0)),
            ("max", rows.max(0)),
            ("mean", rows.mean(0)),
            ("std", rows.std(0)),
        ):
            np.testing.assert_allclose(stats[name][what], expected, rtol=1e-5, atol=1e-7)
        assert stats[name]["count"] == [41]
    episode = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[1]
    states = rows_of(exported, "observation.state")[9:17]
    np.testing.assert_allclose(episode["stats/observation.state/mean"], states.mean(0), rtol=1e-5)
    assert episode["stats/action/count"] == [8]


def test_statistics_of_colours_are_parts_of_one_for_each_channel(exported):
    stats = json.loads((exported / "meta/stats.json").read_text())["observation.images.camera"]
    mean = np.array(stats["mean"])
    assert mean.shape == (3, 1, 1)
    frames = np.concatenate([episode.frames for episode in shape_episodes()])
    np.testing.assert_allclose(mean[:, 0, 0], frames.mean((0, 1, 2)) / 255, atol=0.01)


def test_a_single_column_is_written_as_plain_numbers(tmp_path, trajectory_folder, specification):
    export_lerobot(trajectory_folder, tmp_path / "set")
    assert rows_of(tmp_path / "set", "action").ndim == 1
    source = open_source(tmp_path / "set")
    assert source.specification == specification
    first = next(source.episodes())
    assert first.actions[:, 0].tolist() == [t + 0.5 for t in range(19)]


def test_a_folder_that_holds_something_is_left_alone(shards, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not empty; choose another folder"):
        export_lerobot(shards, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_export_that_fails_leaves_nothing_behind(shards, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(lerobot_export, "_write_json", fail)
    with pytest.raises(OSError, match="no space left"):
        export_lerobot(shards, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_damaged_shards_leave_nothing_behind(shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    last = ShardIndex.load(copy).samples[-1]
    with open(last.shard, "r+b") as shard:
        shard.seek(last.members["states.npy"].offset + 130)
        shard.write(b"\xff")
    with pytest.raises(ShardError, match=r"shard-000002\.tar"):
        export_lerobot(copy, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_videos_without_actions_are_refused(shard_folder, tmp_path):
    with pytest.raises(ShardError, match="videos without states and actions: nothing to export"):
        export_lerobot(shard_folder, tmp_path / "set")


def test_frames_of_two_sizes_are_refused(tmp_path):
    first, second = moving_shape_episodes(num_episodes=2, num_frames=4)
    second = replace(second, frames=second.frames[:, :48])
    pack_trajectories([first, second], tmp_path / "in", specification=MOVING_SHAPE_SPECIFICATION)
    with pytest.raises(ShardError, match=r"'episode-00001' has frames of \(48, 64\) pixels, those"):
        export_lerobot(tmp_path / "in", tmp_path / "set")


@pytest.mark.parametrize("camera", ["action", "index", "observation/images"])
def test_a_camera_cannot_have_the_name_of_another_feature(shards, tmp_path, camera):
    with pytest.raises(ValueError, match=f"camera '{camera}' is no name for a feature"):
        export_lerobot(shards, tmp_path / "set", camera=camera)


def test_a_video_that_lacks_a_frame_is_refused(shards, tmp_path, monkeypatch):
    read = ShardReader.read_array

    def longer(self, sample, extension):
        rows = read(self, sample, extension)
        return np.concatenate([rows, rows[-1:]])

    monkeypatch.setattr(ShardReader, "read_array", longer)
    with pytest.raises(ShardError, match="'episode-00000' has 9 frames and 10 states"):
        export_lerobot(shards, tmp_path / "set")
