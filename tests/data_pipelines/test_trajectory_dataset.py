import re

import numpy as np
import pytest

from data_pipelines.batch import TrajectoryBatch
from data_pipelines.plan import Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.streams import NothingUsable, collate
from data_pipelines.tar_headers import ShardError
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
    sample = windows(trajectories, frame_stride=3, concatenate_actions=True)[Slot(1, seed=0)]
    seen = index_of(sample.frames, PIXELS)[0]
    assert np.diff(seen).tolist() == [3] * 4
    assert sample.actions.shape == (1, 4, 3)
    expected = seen[:-1, None] + np.array([0.5, 1.5, 2.5])
    np.testing.assert_array_equal(sample.actions[0].numpy(), expected)


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
