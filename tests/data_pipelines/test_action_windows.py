import re
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.action_windows import ActionWindows, StatisticsOfWindows
from data_pipelines.pose_differences import ROTATION
from data_pipelines.trajectories import StatisticsOfEpisodes, TrajectorySpecification

ANGLES = ("roll", "pitch", "yaw")
POSES = TrajectorySpecification(
    state_names=("speed", "x", "y", "z", *ANGLES, "gripper"),  # the pose need not come first
    state_units=("1", *("metres",) * 3, *("radians",) * 3, "1"),
    action_names=("command",),
    action_units=("1",),
    action_low=(-1.0,),
    action_high=(1.0,),
    frames_per_second=15.0,
    frame="base",
    rotation=ROTATION,
    gripper="closedness, 0 open to 1 closed",
)
PLAIN = TrajectorySpecification(
    state_names=("place",),
    state_units=("metres",),
    action_names=("dx", "grip"),
    action_units=("metres", "1"),
    action_low=(-10.0, 0.0),
    action_high=(20.0, 200.0),
    frames_per_second=10.0,
    action_kind="displacement",
)


def plain(num_frames=10):
    """place[t] = t; action[t] = (t, 100 + t)."""
    time = np.arange(num_frames, dtype=np.float32)
    return time[:, None], np.stack([time[:-1], 100 + time[:-1]], axis=1)


def poses(num_frames=20, seed=0):
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.normal(0, 0.2, (num_frames, 8)), axis=0).astype(np.float32)
    return states, np.zeros((num_frames - 1, 1), np.float32)


def shown(windows, starts, states, actions):
    return windows.actions_from(np.array(starts), states, actions)


def all_rows(windows, *arrays):
    return np.concatenate(list(windows.all_actions(*arrays)))


# Which frames.


def test_a_window_takes_every_so_many_frames():
    windows = ActionWindows(PLAIN, 4, mode="concatenate", frame_stride=3)
    assert windows.frames_from(np.array([0, 2])).tolist() == [[0, 3, 6, 9], [2, 5, 8, 11]]
    assert windows.span == 10
    assert [windows.num_starts(n) for n in (9, 10, 12)] == [0, 1, 3]


def test_four_of_fifteen_frames_per_second_are_the_nearest_recorded_ones():
    windows = ActionWindows(POSES, 9, mode="pose_difference", frames_per_second=4)
    # every 3.75 frames: 0, 3.75, 7.5, 11.25, 15, ...
    assert windows.offsets.tolist() == [0, 4, 8, 11, 15, 19, 23, 26, 30]
    wanted_seconds = np.arange(9) / 4
    assert np.abs(windows.offsets / 15 - wanted_seconds).max() <= 0.5 / 15 + 1e-9
    assert windows.specification(statistics_of(windows)).frames_per_second == pytest.approx(4)


def test_a_rate_that_divides_the_recorded_one_is_a_stride():
    by_rate = ActionWindows(PLAIN, 4, mode="concatenate", frames_per_second=10 / 3)
    by_stride = ActionWindows(PLAIN, 4, mode="concatenate", frame_stride=3)
    assert by_rate.offsets.tolist() == by_stride.offsets.tolist() == [0, 3, 6, 9]
    assert by_rate.steps_per_action == by_stride.steps_per_action == 3
    assert by_rate.specification() == by_stride.specification()
    assert ActionWindows(PLAIN, 4, frames_per_second=10).offsets.tolist() == [0, 1, 2, 3]


# Which actions, by hand.


def test_recorded_actions_are_those_of_the_data():
    windows = ActionWindows(PLAIN, 3)
    assert shown(windows, [4], *plain()).tolist() == [[[4, 104], [5, 105]]]
    assert windows.specification() == PLAIN


def test_concatenated_actions_stand_in_their_order():
    windows = ActionWindows(PLAIN, 3, mode="concatenate", frame_stride=2)
    actions = shown(windows, [1, 5], *plain())
    assert actions.dtype == np.float32
    assert actions.tolist() == [
        [[1, 101, 2, 102], [3, 103, 4, 104]],
        [[5, 105, 6, 106], [7, 107, 8, 108]],
    ]
    specification = windows.specification()
    assert specification.action_names == ("dx@0", "grip@0", "dx@1", "grip@1")
    assert specification.action_units == ("metres", "1", "metres", "1")
    assert specification.action_low == (-10, 0, -10, 0)
    assert specification.action_high == (20, 200, 20, 200)
    assert specification.frames_per_second == 5
    assert (specification.state_names, windows.action_dim) == (PLAIN.state_names, 4)


@pytest.mark.parametrize(
    ("reduction", "expected", "low", "high", "kind"),
    [
        ("mean", [[2, 102], [5, 105]], (-10, 0), (20, 200), "mean of 3 steps of displacement"),
        ("sum", [[6, 306], [15, 315]], (-30, 0), (60, 600), "sum of 3 steps of displacement"),
        ("first", [[1, 101], [4, 104]], (-10, 0), (20, 200), "displacement"),
    ],
)
def test_one_action_stands_for_three_as_is_asked(reduction, expected, low, high, kind):
    windows = ActionWindows(PLAIN, 3, mode="repeat", frame_stride=3, reduction=reduction)
    assert shown(windows, [1], *plain())[0].tolist() == expected
    specification = windows.specification()
    assert (specification.action_low, specification.action_high) == (low, high)
    assert (specification.action_names, specification.action_kind) == (("dx", "grip"), kind)
    assert (windows.start_spacing, windows.action_dim, windows.steps_per_action) == (1, 2, 3)


def test_actions_that_were_repeated_stand_for_each_other_from_the_first_on():
    states, _ = plain(13)
    actions = np.repeat(np.array([[1, 0], [2, 9], [3, 0], [4, 9]], np.float32), 3, axis=0)
    windows = ActionWindows(PLAIN, 3, mode="repeat", frame_stride=3)
    assert (windows.start_spacing, windows.num_starts(13), windows.num_starts(12)) == (3, 3, 2)
    assert shown(windows, [0, 6], states, actions)[..., 0].tolist() == [[1, 2], [3, 4]]
    assert all_rows(windows, states, actions)[:, 0].tolist() == [1, 2, 3, 4]
    noise = np.linspace(0, 1, actions.size, dtype=np.float32).reshape(actions.shape)
    assert len(all_rows(windows, states, actions + 1e-3 * noise)) == 4  # 1e-4 of 30 is 3e-3
    with pytest.raises(ValueError, match=r"dx is .* within the 3 steps"):
        all_rows(windows, states, actions + noise)
    with pytest.raises(ValueError, match=r"'k': dx is 1 and 2 within the 3 steps .* 'sum'"):
        windows.actions_from(np.array([1]), states, actions, key="k")


def statistics_of(windows, *episodes):
    gathered = StatisticsOfWindows(windows)
    for episode in episodes or [poses(40)]:
        gathered.add(*episode)
    return gathered.result()


def test_pose_differences_equal_those_of_scipy_one_by_one():
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    windows = ActionWindows(POSES, 4, mode="pose_difference", frame_stride=3)
    states, actions = poses()
    taken = shown(windows, [0, 7], states, actions)
    assert taken.shape == (2, 3, 7)
    for row, start in zip(taken, [0, 7], strict=True):
        for step in range(3):
            one = states[start + 3 * step, 1:].astype(np.float64)
            two = states[start + 3 * step + 3, 1:].astype(np.float64)
            turns = [rotation.from_euler("xyz", pose[3:6]) for pose in (one, two)]
            expected = two - one
            expected[3:6] = (turns[1] * turns[0].inv()).as_euler("xyz")
            np.testing.assert_allclose(row[step], expected, atol=1e-6)


def test_pose_differences_say_what_they_mean_and_how_large_they_are_in_the_data():
    windows = ActionWindows(POSES, 4, mode="pose_difference", frame_stride=3)
    states, actions = poses()
    states[:, 2] = 0.25  # y never changes
    rows = all_rows(windows, states, actions)
    specification = windows.specification(statistics_of(windows, (states, actions)))
    names = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "dgripper")
    assert specification.action_names == names
    assert specification.action_units == ("metres",) * 3 + ("radians",) * 3 + ("1",)
    assert specification.action_kind == "pose difference"
    assert (specification.rotation, specification.frames_per_second) == (ROTATION, 5)
    others = [0, 2, 3, 4, 5, 6]
    assert np.array(specification.action_low)[others].tolist() == rows.min(0)[others].tolist()
    assert np.array(specification.action_high)[others].tolist() == rows.max(0)[others].tolist()
    assert (specification.action_low[1], specification.action_high[1]) == (-1e-3, 1e-3)
    with pytest.raises(ValueError, match="give the windows' statistics"):
        windows.specification()


def test_all_actions_are_those_of_all_windows_of_two_frames():
    """A window of two frames from every start shows each action once."""
    for settings in (
        {"mode": "concatenate", "frame_stride": 3},
        {"mode": "repeat", "frame_stride": 3, "reduction": "sum"},
    ):
        windows = ActionWindows(PLAIN, 2, **settings)
        starts = np.arange(windows.num_starts(10))
        expected = shown(windows, starts, *plain())[:, 0]
        np.testing.assert_array_equal(all_rows(windows, *plain()), expected)
        longer = replace(windows, clip_length_frames=3)  # the same actions, in other places
        np.testing.assert_array_equal(all_rows(longer, *plain()), expected)


def test_uneven_distances_count_as_often_as_a_window_has_them():
    windows = ActionWindows(POSES, 9, mode="pose_difference", frames_per_second=4)
    assert np.diff(windows.offsets).tolist() == [4, 4, 3, 4] * 2
    parts = list(windows.all_actions(*poses()))
    assert [len(part) for part in parts] == [17, 16, 16, 16]  # 20 frames, 3 and 4 apart


# Statistics.


def test_statistics_of_windows_are_those_of_their_rows():
    windows = ActionWindows(POSES, 5, mode="pose_difference", frame_stride=2)
    episodes = [poses(20, seed) for seed in range(3)]
    statistics = statistics_of(windows, *episodes)
    rows = np.concatenate([all_rows(windows, *episode) for episode in episodes]).astype(float)
    np.testing.assert_allclose(statistics.action_mean, rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(statistics.action_std, rows.std(0), atol=1e-12)
    np.testing.assert_allclose(statistics.action_quantile_99, np.quantile(rows, 0.99, axis=0))
    states = np.concatenate([states for states, _ in episodes]).astype(float)
    np.testing.assert_allclose(statistics.state_mean, states.mean(0), atol=1e-12)


def test_a_trajectory_too_short_for_a_window_does_not_count():
    windows = ActionWindows(POSES, 5, mode="pose_difference", frame_stride=2)
    assert statistics_of(windows, poses(20), poses(8, 5)) == statistics_of(windows, poses(20))
    assert statistics_of(windows, poses(20), poses(9, 5)) != statistics_of(windows, poses(20))


def test_statistics_of_joined_actions_are_the_recorded_ones_repeated():
    recorded = StatisticsOfEpisodes(PLAIN)
    recorded.add(*plain())
    recorded = recorded.result()
    windows = ActionWindows(PLAIN, 3, mode="concatenate", frame_stride=2)
    derived = windows.derived_statistics(recorded)
    assert derived.action_mean == (4, 104, 4, 104)
    assert derived.action_std == recorded.action_std * 2
    assert derived.action_max == (8, 108, 8, 108)
    assert derived.state_mean == recorded.state_mean
    assert ActionWindows(PLAIN, 3).derived_statistics(recorded) == recorded
    assert ActionWindows(PLAIN, 3, mode="repeat").derived_statistics(recorded) is None


def test_derived_statistics_are_exact_where_every_place_sees_every_action():
    """Long trajectories: all that differs from counting windows are the ends."""
    time = np.arange(5000, dtype=np.float32)
    actions = np.stack([np.sin(time[:-1]), 100 + np.cos(time[:-1])], axis=1)
    recorded = StatisticsOfEpisodes(PLAIN)
    recorded.add(time[:, None], actions)
    windows = ActionWindows(PLAIN, 3, mode="concatenate", frame_stride=4)
    derived = windows.derived_statistics(recorded.result())
    counted = statistics_of(windows, (time[:, None], actions))
    np.testing.assert_allclose(derived.action_mean, counted.action_mean, atol=1e-3)
    np.testing.assert_allclose(derived.action_std, counted.action_std, atol=1e-3)


# What is refused.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_stride": 0}, "frame_stride must be at least 1, got 0"),
        ({"clip_length_frames": 0}, "clip_length_frames must be at least 1, got 0"),
        ({"frame_stride": 2}, "frame_stride=2 leaves out frames but not their actions"),
        ({"frames_per_second": 5}, "frame_stride=2 leaves out frames but not their actions"),
        ({"mode": "joined"}, "actions must be one of recorded, .*, got 'joined'"),
        ({"mode": "repeat", "reduction": "last"}, "action_reduction must be one of equal, .*last"),
        ({"reduction": "sum"}, "action_reduction='sum' is for actions='repeat' only"),
        ({"frames_per_second": 11}, "above 0 and at most the recorded 10, got 11"),
        ({"frames_per_second": 0}, "above 0 and at most the recorded 10, got 0"),
        ({"frames_per_second": 5, "frame_stride": 2}, r"got both \(2 and 5\)"),
        (
            {"frames_per_second": 4, "mode": "concatenate"},
            "4 frames per second of 10 .* uneven .*actions='concatenate'.*.*pose_difference",
        ),
        ({"frames_per_second": 7, "mode": "repeat"}, "uneven"),
        ({"mode": "pose_difference"}, "needs states named x, .*not so x.*; the states are place"),
    ],
)
def test_windows_that_would_lose_or_invent_actions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ActionWindows(PLAIN, **{"clip_length_frames": 4, **settings})


def test_poses_whose_rotation_nobody_explains_are_refused():
    for rotation in ("", "intrinsic xyz Euler, radians"):
        unclear = replace(POSES, rotation=rotation)
        with pytest.raises(ValueError, match=re.escape(f"{ROTATION}' in the") + f".*'{rotation}'"):
            ActionWindows(unclear, 4, mode="pose_difference")
    twice = replace(POSES, state_names=("x", *POSES.state_names[1:]))
    with pytest.raises(ValueError, match=r"once each.*not so x;"):
        ActionWindows(twice, 4, mode="pose_difference")
