"""Small real videos whose grey level tells the frame's index, and shards of them."""

import numpy as np
import pytest

import data_pipelines  # noqa: F401  (before lightning and torchvision, see torchvision_on_cpu)
from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.trajectories import Episode, TrajectorySpecification
from data_pipelines.video_writing import write_mp4


def _index_frames(num_frames, *, height=48, width=64):
    """Frame i is grey of level 8 + 4 i, for up to 60 frames."""
    levels = (8 + 4 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).copy()


@pytest.fixture(scope="session")
def index_frames():
    return _index_frames


@pytest.fixture(scope="session")
def index_of():
    """Returns which frames these are: over the last three axes but one, whatever the layout."""

    def read(pixels, axes):
        return np.rint((np.asarray(pixels, dtype=np.float64).mean(axes) - 8) / 4).astype(int)

    return read


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory):
    """Twelve videos of 20 to 31 frames at 10 per second, in two class folders."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(12):
        path = folder / ("even" if number % 2 == 0 else "odd") / f"video{number:02d}.mp4"
        write_mp4(path, _index_frames(20 + number), frames_per_second=10, keyframe_interval=8)
    return folder


@pytest.fixture(scope="session")
def shard_folder(video_folder, tmp_path_factory):
    """Three shards of the twelve videos."""
    out = tmp_path_factory.mktemp("shards")
    pack_videos(video_folder, out, samples_per_shard=5)
    return out


@pytest.fixture(scope="session")
def specification():
    return TrajectorySpecification(
        state_names=("clock", "constant"),
        state_units=("frames", "1"),
        action_names=("step",),
        action_units=("frames",),
        action_low=(-100.0,),
        action_high=(100.0,),
        frames_per_second=10.0,
    )


def _episode(number, num_frames=20):
    """State[t] = (t, number); action[t] = t + 0.5, halfway between its two frames."""
    time = np.arange(num_frames, dtype=np.float32)
    return Episode(
        frames=_index_frames(num_frames),
        states=np.stack([time, np.full_like(time, number)], axis=1),
        actions=time[:-1, None] + np.float32(0.5),
        key=f"episode{number:02d}",
        frames_per_second=10.0,
        group=f"group{number % 2}",
    )


@pytest.fixture(scope="session")
def episode():
    return _episode


@pytest.fixture(scope="session")
def trajectory_folder(specification, tmp_path_factory):
    """Two shards of six episodes."""
    out = tmp_path_factory.mktemp("trajectories")
    episodes = (_episode(number) for number in range(6))
    pack_trajectories(episodes, out, specification=specification, samples_per_shard=4)
    return out
