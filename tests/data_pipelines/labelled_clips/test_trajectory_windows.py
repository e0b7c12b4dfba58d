from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.labelled_clips.reading import read_labelled_clips
from data_pipelines.labelled_clips.trajectory_windows import Target, WindowClips
from data_pipelines.shards import pack_trajectories
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION, moving_shape_episodes


@pytest.fixture(scope="module")
def episodes():
    return list(moving_shape_episodes(num_episodes=4, num_frames=12, size=32))


@pytest.fixture(scope="module")
def shards(episodes, tmp_path_factory):
    out = tmp_path_factory.mktemp("trajectories")
    pack_trajectories(iter(episodes), out, specification=MOVING_SHAPE_SPECIFICATION)
    return str(out)


def read(shards, **options):
    return read_labelled_clips(
        shards,
        **{
            "clip_length_frames": 4,
            "image_size": 32,
            "windows_per_trajectory": 3,
            **options,
        },
    )


def test_windows_go_from_the_first_frame_to_the_last_and_are_labelled_by_their_end(
    shards, episodes
):
    data = read(shards)
    assert isinstance(data, WindowClips)
    first = episodes[0]
    assert data.keys[:3] == tuple(f"{first.key}@{start}" for start in (0, 4, 8))
    np.testing.assert_allclose(data.labels[:3], first.states[[3, 7, 11]])
    assert data.classes is None and data.targets == ("x", "y")
    assert data.labels.dtype == np.float32


def test_frames_are_those_of_the_window_whole(shards, episodes):
    video = read(shards)[1].video  # (1, 3, 4, 32, 32)
    recorded = np.stack(episodes[0].frames[4:8]).transpose(3, 0, 1, 2)
    assert video.shape == (1, 3, 4, 32, 32)
    assert np.abs(video[0].numpy().astype(int) - recorded).mean() < 12  # h264 is lossy
    other = np.stack(episodes[0].frames[8:12]).transpose(3, 0, 1, 2)
    assert (
        np.abs(video[0].numpy().astype(int) - recorded).mean()
        < np.abs(video[0].numpy().astype(int) - other).mean()
    )


def test_windows_of_one_trajectory_are_one_recording(shards):
    data = read(shards)
    assert len(data) == 12 and len(set(data.recordings)) == 4
    assert len(set(data.recordings[:3])) == 1


def test_columns_are_chosen_by_name(shards, episodes):
    data = read(shards, target="states:y")
    np.testing.assert_allclose(data.labels[:1, 0], episodes[0].states[3:4, 1])
    assert data.targets == ("y",)


def test_actions_are_summed_over_the_window(shards, episodes):
    data = read(shards, target="actions")
    np.testing.assert_allclose(data.labels[1], episodes[0].actions[4:7].sum(0), rtol=1e-5)


def test_motion_is_where_the_summed_action_points(shards, episodes):
    data = read(shards, target="motion")
    assert data.classes == (
        *("velocity_x +", "velocity_x -", "velocity_y +", "velocity_y -"),
        "still",
    )
    for number, start in enumerate((0, 4, 8)):
        total = episodes[0].actions[start : start + 3].sum(0)
        column = int(abs(total[1]) > abs(total[0]))
        assert data.labels[number] == 2 * column + (total[column] < 0)


def test_a_window_without_motion_is_still(tmp_path, episodes):
    still = replace(episodes[0], actions=np.zeros_like(episodes[0].actions))
    pack_trajectories(iter([still]), tmp_path, specification=MOVING_SHAPE_SPECIFICATION)
    data = read(str(tmp_path), target="motion")
    assert data.labels.tolist() == [4, 4, 4]


def test_a_stride_leaves_out_frames_and_sums_their_actions(shards, episodes):
    data = read(shards, target="actions", frame_stride=3, windows_per_trajectory=1)
    # 4 frames, 3 apart: a span of 10, of 3 possible starts the middle one
    assert data.keys[0].endswith("@1")
    np.testing.assert_allclose(data.labels[0], episodes[0].actions[1:10].sum(0), rtol=1e-5)
    assert data[0].video.shape == (1, 3, 4, 32, 32)


def test_trajectories_shorter_than_a_window_are_named(shards):
    with pytest.raises(
        ValueError, match=r"no trajectory can be used.*12 frames, a window needs 13"
    ):
        read(shards, clip_length_frames=13)


def test_several_clips_views_or_crops_are_refused(shards):
    with pytest.raises(ValueError, match="a window of a trajectory is one clip of whole frames"):
        read(shards, num_clips=2)
    with pytest.raises(ValueError, match="trajectories need crop='whole', got 'square'"):
        read(shards, crop="square")
    with pytest.raises(ValueError, match="one clip of whole frames"):
        read(shards).with_random_views(2)


def test_a_target_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no column z; there are x, y"):
        Target.parse("states:z", MOVING_SHAPE_SPECIFICATION)
    with pytest.raises(ValueError, match=r"one of states, actions, motion.*got 'speed'"):
        Target.parse("speed", MOVING_SHAPE_SPECIFICATION)


def test_other_states_are_another_fingerprint(shards):
    assert read(shards).fingerprint == read(shards).fingerprint
    assert read(shards).fingerprint != read(shards, target="states:x").fingerprint
    assert read(shards).fingerprint != read(shards, windows_per_trajectory=2).fingerprint
