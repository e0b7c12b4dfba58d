"""Data sets as stable-worldmodel's HDF5, video and folder writers lay them out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.__main__ import main
from data_pipelines.importers.base import SourceError
from data_pipelines.importers.worlds import open_source
from data_pipelines.shards import ShardIndex, pack_trajectories
from data_pipelines.video_writing import write_mp4

LENGTHS = (6, 4, 9)
OFFSETS = (0, 6, 10)


def columns():
    """Action t is (t, -t) / 20, NaN in the last row of an episode; proprio is (t, episode)."""
    actions, states = [], []
    for episode, length in enumerate(LENGTHS):
        time = np.arange(length, dtype=np.float32)
        actions.append(np.stack([time, -time], axis=1) / 20)
        actions[-1][-1] = np.nan
        states.append(np.stack([time, np.full_like(time, episode)], axis=1))
    return {
        "action": np.concatenate(actions),
        "proprio": np.concatenate(states),
        "reward": np.zeros(sum(LENGTHS), np.float32),
        "ep_len": np.array(LENGTHS, np.int32),
        "ep_offset": np.array(OFFSETS, np.int64),
    }


@pytest.fixture
def frames(index_frames):
    """Frames of all episodes, one after the other: frame i of the set has the i-th grey."""
    return index_frames(sum(LENGTHS))


@pytest.fixture
def hdf5_set(tmp_path, frames):
    h5py = pytest.importorskip("h5py")

    def write(path=tmp_path / "set.h5", *, without=(), **more):
        with h5py.File(path, "w", libver="latest") as file:
            arrays = {**columns(), "pixels": frames, **more}
            for name in arrays.keys() - set(without):
                file[name] = arrays[name]
        return path

    return write


def write_npz(folder):
    folder.mkdir()
    for name, values in columns().items():
        np.savez(folder / f"{name}.npz", values)
    return folder


@pytest.fixture
def video_set(tmp_path, frames):
    folder = write_npz(tmp_path / "videos")
    for index, (start, length) in enumerate(zip(OFFSETS, LENGTHS, strict=True)):
        part = frames[start : start + length]
        write_mp4(folder / "pixels" / f"ep_{index}.mp4", part, frames_per_second=25)
    return folder


@pytest.fixture
def image_set(tmp_path, frames):
    folder = write_npz(tmp_path / "images")
    (folder / "pixels").mkdir()
    for index, (start, length) in enumerate(zip(OFFSETS, LENGTHS, strict=True)):
        for step in range(length):
            path = folder / "pixels" / f"ep_{index}_step_{step}.jpeg"
            Image.fromarray(frames[start + step]).save(path)
    return folder


@pytest.mark.parametrize("layout", ["hdf5_set", "video_set", "image_set"])
def test_every_layout_gives_the_same_frames_states_and_actions(layout, request, index_of):
    source = request.getfixturevalue(layout)
    source = source() if callable(source) else source
    episodes = list(open_source(source).episodes())
    assert len(episodes) == 3
    for number, (episode, start, length) in enumerate(zip(episodes, OFFSETS, LENGTHS, strict=True)):
        time = np.arange(length)
        np.testing.assert_array_equal(index_of(episode.frames, (1, 2, 3)), start + time)
        np.testing.assert_array_equal(episode.states, np.stack([time, number + 0 * time], 1))
        np.testing.assert_allclose(episode.actions[:, 0], time[:-1] / 20, atol=1e-6)
        np.testing.assert_allclose(episode.actions[:, 1], -time[:-1] / 20, atol=1e-6)
        assert episode.key == episode.group == f"episode-00000{number}"


def test_the_rate_is_10_or_what_is_said_and_never_the_videos(video_set):
    assert open_source(video_set).specification.frames_per_second == 10
    importer = open_source(video_set, frames_per_second=5)
    episodes = list(importer.episodes())
    assert importer.specification.frames_per_second == 5
    assert {episode.frames_per_second for episode in episodes} == {5}
    assert [len(episode.frames) for episode in episodes] == list(LENGTHS)  # none is left out


def test_columns_are_named_after_their_source(hdf5_set):
    specification = open_source(hdf5_set()).specification
    assert specification.state_names == ("proprio_0", "proprio_1")
    assert specification.action_names == ("action_0", "action_1")
    assert specification.action_low == (-1.0, -1.0)


def test_bounds_leave_the_unused_last_actions_out(hdf5_set):
    actions = np.nan_to_num(columns()["action"], nan=1e6)
    actions[0] = 5.0
    specification = open_source(hdf5_set(action=actions)).specification
    assert specification.action_high == (5.0, 5.0)


def test_states_come_from_state_without_proprio_and_from_nothing_without_both(hdf5_set, tmp_path):
    seven = np.ones((sum(LENGTHS), 7), np.float32)
    other = hdf5_set(tmp_path / "a.h5", without=["proprio"], state=seven)
    assert open_source(other).specification.state_names[0] == "state_0"
    none = hdf5_set(tmp_path / "b.h5", without=["proprio"])
    assert open_source(none).specification.state_dim == 0
    assert next(iter(open_source(none).episodes())).states.shape == (6, 0)


def test_a_camera_is_chosen_among_columns_of_images(hdf5_set, frames, index_of):
    path = hdf5_set(goal=frames[::-1])
    episode = next(iter(open_source(path, camera="goal").episodes()))
    assert index_of(episode.frames, (1, 2, 3))[0] == 18
    assert index_of(next(iter(open_source(path).episodes())).frames, (1, 2, 3))[0] == 0
    with pytest.raises(SourceError, match="no column of images 'top'; there are: goal, pixels"):
        open_source(path, camera="top")


def test_grey_pictures_become_three_colours(hdf5_set, frames, index_of):
    episode = next(iter(open_source(hdf5_set(pixels=frames[..., :1])).episodes()))
    assert episode.frames.shape[-1] == 3
    np.testing.assert_array_equal(index_of(episode.frames, (1, 2, 3)), range(6))


def test_shards_hold_the_same_numbers(hdf5_set, tmp_path, read_back, index_of):
    importer = open_source(hdf5_set(), image_size=32)
    out = tmp_path / "shards"
    pack_trajectories(importer.episodes(), out, specification=importer.specification)
    samples = read_back(out)
    for (_, frames, states, actions), start, length in zip(samples, OFFSETS, LENGTHS, strict=True):
        assert frames.shape == (length, 32, 32, 3)
        np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), start + np.arange(length))
        np.testing.assert_array_equal(states[:, 0], np.arange(length))
        np.testing.assert_allclose(actions[:, 0], np.arange(length - 1) / 20, atol=1e-6)


def test_a_folder_with_one_file_is_that_file(hdf5_set, tmp_path):
    hdf5_set()
    assert len(list(open_source(tmp_path).episodes())) == 3
    hdf5_set(tmp_path / "other.h5")
    with pytest.raises(SourceError, match="2 HDF5 files; name one"):
        open_source(tmp_path)


def test_lance_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "set.lance").mkdir()
    with pytest.raises(SourceError, match="Lance is not read here; convert it first: swm"):
        open_source(tmp_path / "set.lance")


@pytest.mark.parametrize("missing", ["ep_len", "ep_offset", "action"])
def test_a_missing_column_is_named(hdf5_set, video_set, missing):
    with pytest.raises(SourceError, match=rf"no {missing}; is it stable-worldmodel's"):
        open_source(hdf5_set(without=[missing]))
    (video_set / f"{missing}.npz").unlink()
    with pytest.raises(SourceError, match=rf"no .*{missing}"):
        open_source(video_set)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ep_offset": np.array([0, 6])}, "3 ep_len for 2 ep_offset"),
        ({"action": np.full((19, 2), np.nan)}, "in no episode finite and long enough"),
    ],
)
def test_rows_that_make_no_episodes_are_refused(hdf5_set, more, message):
    with pytest.raises(SourceError, match=message):
        open_source(hdf5_set(**more))


def with_nan(row):
    actions = columns()["action"]
    actions[row] = np.nan
    return {"action": actions}


@pytest.mark.parametrize(
    ("more", "bad", "message"),
    [
        ({"ep_offset": np.array([0, 6, 100])}, 2, r"is 9 steps long and has \{'actions': 0, "),
        ({"ep_offset": np.array([0, -6, 10])}, 1, "begins at row -6"),
        ({"ep_len": np.array([6, 0, 9])}, 1, "is 0 steps long"),
        (with_nan(7), 1, "'action' is not finite before its last row"),
    ],
)
def test_rows_of_one_episode_that_cannot_be_used_cost_this_one_only(
    hdf5_set, tmp_path, more, bad, message
):
    path = hdf5_set(**more)
    with pytest.raises(SourceError, match=message):
        open_source(path).episode(bad)
    assert main(["import", "worlds", str(path), str(tmp_path / "out")]) == 0
    index = ShardIndex.load(tmp_path / "out")
    assert [video.path for video in index.skipped] == [f"episode-{bad:06d}"]
    assert index.num_samples == 2 and index.specification.action_low == (-1.0, -1.0)


def test_a_video_that_ends_its_decoder_costs_one_episode(video_set, tmp_path, capsys):
    crashing = Path(__file__).parent / "crashes_decord.mp4"
    (video_set / "pixels/ep_1.mp4").write_bytes(crashing.read_bytes())
    assert main(["import", "worlds", str(video_set), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "skipped 1 of 3: episode-000001: the process that read it crashed on it" in said
    assert ShardIndex.load(tmp_path / "out").num_samples == 2


def test_a_column_shorter_than_the_others_is_refused(hdf5_set, frames):
    with pytest.raises(SourceError, match=r"episode 2 is 9 steps long and has \{'frames': 8"):
        list(open_source(hdf5_set(pixels=frames[:18])).episodes())


def test_a_video_with_other_frames_than_steps_is_refused(video_set, frames):
    write_mp4(video_set / "pixels" / "ep_1.mp4", frames[:3], frames_per_second=25)
    with pytest.raises(SourceError, match=r"ep_1\.mp4: 3 frames for 4 steps"):
        list(open_source(video_set).episodes())


def test_a_missing_image_is_named(image_set):
    (image_set / "pixels" / "ep_1_step_2.jpeg").unlink()
    with pytest.raises(SourceError, match=r"ep_1_step_2\.jpeg: no such image"):
        list(open_source(image_set).episodes())


def test_pickled_columns_are_not_run(video_set):
    np.savez(video_set / "action.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(SourceError, match=r"action\.npz: cannot be read: Object arrays"):
        open_source(video_set)
