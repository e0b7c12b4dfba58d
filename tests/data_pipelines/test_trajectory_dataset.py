import re

import numpy as np
import pytest

from data_pipelines.batch import TrajectoryBatch
from data_pipelines.plan import Slot
from data_pipelines.pose_differences import ROTATION
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shards import pack_trajectories
from data_pipelines.streams import NothingUsable, collate
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import Episode, TrajectorySpecification
from data_pipelines.trajectory_dataset import TrajectoryDataset
from data_pipelines.transforms import ResizeWholeFrame

PIXELS = (1, 3, 4)  # of (batch, 3, time, height, width)


@pytest.fixture(scope="module")
def trajectories(trajectory_folder):
    return ShardIndex.load(trajectory_folder)


def windows(index, **settings):
    settings = {"clip_length_frames": 5, "transform": ResizeWholeFrame(32), **settings}
    return TrajectoryDataset(index, **settings)


def test_frames_states_and_actions_stay_in_step(trajectories, index_of):
    dataset = windows(trajectories, windows_per_trajectory=3)
    batch = collate([dataset[Slot(n, seed=n)] for n in range(6)])
    assert isinstance(batch, TrajectoryBatch)
    assert batch.frames.shape == (18, 3, 5, 32, 32)
    seen = index_of(batch.frames, PIXELS)  # (batch, time)
    np.testing.assert_array_equal(batch.states[..., 0].numpy(), seen)
    np.testing.assert_array_equal(batch.actions[..., 0].numpy(), seen[:, :-1] + 0.5)
    assert batch.states[:, 0, 1].tolist() == [n for n in range(6) for _ in range(3)]
    assert batch.keys[:4] == ("episode00",) * 3 + ("episode01",)
    assert len({row[0] for row in seen.tolist()}) > 3


def test_a_stride_joins_the_actions_in_between(trajectories, index_of):
    sample = windows(trajectories, frame_stride=3, actions="concatenate")[Slot(1, seed=0)]
    seen = index_of(sample.frames, PIXELS)[0]
    assert np.diff(seen).tolist() == [3] * 4
    assert sample.actions.shape == (1, 4, 3)
    expected = seen[:-1, None] + np.array([0.5, 1.5, 2.5])
    np.testing.assert_array_equal(sample.actions[0].numpy(), expected)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", 1.0), ("sum", 2.0), ("first", 0.5)])
def test_one_action_stands_for_two_between_the_frames_that_are_seen(
    trajectories, index_of, reduction, expected
):
    """From frame t the actions t + 0.5 and t + 1.5 lead to frame t + 2."""
    settings = {"frame_stride": 2, "actions": "repeat", "action_reduction": reduction}
    sample = windows(trajectories, windows_per_trajectory=4, **settings)[Slot(2, seed=0)]
    seen = index_of(sample.frames, PIXELS)  # (windows, time)
    assert np.diff(seen).tolist() == [[2] * 4] * 4
    scale = 2 if reduction == "sum" else 1
    np.testing.assert_allclose(sample.actions[..., 0], scale * seen[:, :-1] + expected)
    np.testing.assert_array_equal(sample.states[..., 0], seen)


def test_actions_that_differ_stop_the_run_and_name_their_trajectory(trajectories):
    dataset = windows(trajectories, frame_stride=2, actions="repeat")
    with pytest.raises(ValueError, match=r"'episode01': step is .* within the 2 steps"):
        dataset[Slot(1, seed=0)]


@pytest.fixture(scope="module")
def pose_folder(index_frames, tmp_path_factory):
    """x[t] = t; yaw turns by 0.3 a frame; the gripper closes by 1/32 a frame; 30 frames at 15."""
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    specification = TrajectorySpecification(
        state_names=names,
        state_units=("metres",) * 3 + ("radians",) * 3 + ("1",),
        action_names=("command",),
        action_units=("1",),
        action_low=(-1.0,),
        action_high=(1.0,),
        frames_per_second=15.0,
        rotation=ROTATION,
    )
    time = np.arange(30)
    states = np.zeros((30, 7), np.float32)
    states[:, 0], states[:, 6] = time, time / 32
    states[:, 5] = (0.3 * time + np.pi) % (2 * np.pi) - np.pi
    episode = Episode(index_frames(30), states, np.zeros((29, 1), np.float32), "turn", 15.0)
    out = tmp_path_factory.mktemp("poses")
    pack_trajectories([episode], out, specification=specification)
    return out


def test_four_frames_per_second_of_fifteen_come_with_the_differences_of_their_poses(
    pose_folder, index_of
):
    dataset = windows(
        ShardIndex.load(pose_folder),
        frames_per_second=4,
        actions="pose_difference",
        windows_per_trajectory=5,
    )
    sample = dataset[Slot(0, seed=1)]
    seen = index_of(sample.frames, PIXELS)  # (windows, time)
    assert (np.diff(seen) == [4, 4, 3, 4]).all() and len({row[0] for row in seen.tolist()}) > 2
    np.testing.assert_array_equal(sample.states[..., 0], seen)
    steps = np.diff(seen)[..., None]  # (windows, time - 1, 1)
    expected = steps * np.array([1, 0, 0, 0, 0, 0.3, 1 / 32])
    np.testing.assert_allclose(sample.actions, expected, atol=2e-6)
    blank = dataset.blank("", ())
    assert (blank.actions.shape, blank.states.shape) == ((5, 4, 7), (5, 5, 7))


def test_the_middle_window_of_repeated_actions_starts_where_they_change(pose_folder, index_of):
    settings = {"frame_stride": 4, "actions": "repeat", "place": "middle"}
    sample = windows(ShardIndex.load(pose_folder), **settings)[Slot(0, seed=0)]
    assert index_of(sample.frames, PIXELS).tolist() == [[4, 8, 12, 16, 20]]  # of 0, 4, 8, 12


def test_random_windows_of_repeated_actions_start_where_they_change(pose_folder, index_of):
    settings = {"frame_stride": 4, "actions": "repeat", "windows_per_trajectory": 40}
    sample = windows(ShardIndex.load(pose_folder), **settings)[Slot(0, seed=0)]
    starts = index_of(sample.frames, PIXELS)[:, 0]
    assert set(starts.tolist()) == {0, 4, 8, 12}


def test_a_stride_that_loses_actions_is_refused(trajectories):
    with pytest.raises(ValueError, match="frame_stride=2 leaves out frames but not their actions"):
        windows(trajectories, frame_stride=2)
    with pytest.raises(ValueError, match="frame_stride must be at least 1, got 0"):
        windows(trajectories, frame_stride=0)


def test_a_window_may_be_the_whole_trajectory_but_not_more(trajectories, index_of):
    whole = windows(trajectories, clip_length_frames=20)[Slot(0, seed=0)]
    assert index_of(whole.frames, PIXELS).tolist() == [list(range(20))]
    nothing = windows(trajectories, clip_length_frames=21)[Slot(0, seed=0)]
    assert isinstance(nothing, NothingUsable)
    assert re.search(r"6 of 6 .* needs 21 frames .* has 20", nothing.message)


def test_videos_are_no_trajectories(shard_folder):
    with pytest.raises(ShardError, match=r"has no states\.npy or no actions\.npy"):
        windows(ShardIndex.load(shard_folder))
