import numpy as np
import pytest
import torch

from data_pipelines.clip_sampling import (
    ClipSampling,
    ClipTooShortError,
    explain_misfit,
    fitting_duration,
    frames_on_screen,
)
from data_pipelines.official_clip_sampling import OfficialClipSampling

TEN_PER_SECOND = np.arange(20) / 10


def clips(length, seed=0, timestamps_seconds=TEN_PER_SECOND, **settings):
    """(clips, time) as lists."""
    generator = torch.Generator().manual_seed(seed)
    found = ClipSampling(length, **settings).indices(timestamps_seconds, generator=generator)
    assert found.dtype == np.int64
    return found.tolist()


def starts(length, seeds, **settings):
    """Over seeds: (seeds, clips)."""
    return np.array([[clip[0] for clip in clips(length, seed, **settings)] for seed in seeds])


def test_at_the_videos_own_rate_frames_are_consecutive():
    for (clip,) in (clips(6, seed) for seed in range(50)):
        assert np.diff(clip).tolist() == [1] * 5
        assert clip[0] >= 0 and clip[-1] <= 19


def test_every_start_is_drawn_and_about_equally_often():
    firsts = starts(17, range(400))
    assert set(firsts.flat) == {0, 1, 2, 3}
    assert min(np.bincount(firsts[:, 0])) > 70


def test_a_stride_takes_every_so_many_frames_up_to_the_last():
    found = [clips(4, seed, frame_stride=6)[0] for seed in range(30)]
    assert {tuple(clip) for clip in found} == {(0, 6, 12, 18), (1, 7, 13, 19)}


def test_half_the_rate_takes_every_second_frame():
    assert clips(5, frames_per_second=5, placement="middle") == [[6, 8, 10, 12, 14]]


def test_a_rate_follows_the_clock_where_a_stride_counts_frames():
    # Ten frames in the first second, then one in each of the next four.
    slowing = np.concatenate((np.arange(10) / 10, np.arange(1, 5)))
    settings = {"timestamps_seconds": slowing, "placement": "middle"}
    by_time = clips(5, frames_per_second=1.0, short_video="repeat_last", **settings)[0]
    seconds = slowing[by_time]
    assert np.diff(seconds[1:]).tolist() == [1.0] * 3 and seconds[0] < 1.0
    assert clips(5, frame_stride=3, **settings) == [[1, 4, 7, 10, 13]]


def test_exact_times_show_the_frame_on_screen_at_that_moment():
    uneven = np.array([0.0, 0.1, 0.5, 0.6, 1.0])
    wanted = np.array([0.0, 0.09, 0.11, 0.49, 0.55, 2.0])
    assert frames_on_screen(uneven, wanted).tolist() == [0, 0, 1, 1, 2, 4]


def test_times_that_32_bit_floats_round_down_still_find_their_frame():
    rounded = (np.arange(300) / 30).astype(np.float32).astype(np.float64)
    wanted = np.arange(300) / 30
    assert frames_on_screen(rounded, wanted).tolist() == list(range(300))
    assert frames_on_screen(wanted, rounded).tolist() == list(range(300))


def test_a_higher_rate_than_the_videos_repeats_frames():
    (clip,) = clips(40, frames_per_second=20, placement="middle")
    assert clip == [frame for frame in range(20) for _ in (0, 1)]


def test_the_last_clip_ends_with_the_last_frame():
    # It starts by 2.0 - 1.5 - 0.001 s: there is no room for another clip behind it.
    ends = {clips(4, seed, frames_per_second=2)[0][-1] for seed in range(60)}
    assert ends == {15, 16, 17, 18, 19}


def test_the_same_generator_gives_the_same_clips_and_another_seed_others():
    settings = {"clips_per_video": 3}
    assert clips(4, 7, **settings) == clips(4, 7, **settings) != clips(4, 8, **settings)


# Several clips of one video.


def test_random_clips_of_a_video_are_independent():
    firsts = starts(11, range(300), clips_per_video=2)  # ten possible starts
    together = np.histogram2d(firsts[:, 0], firsts[:, 1], bins=(2, 2))[0] / 300
    assert (abs(together - 0.25) < 0.08).all()


def test_uniform_clips_lie_in_the_middle_of_equal_parts():
    assert clips(4, clips_per_video=2, placement="uniform") == [[3, 4, 5, 6], [13, 14, 15, 16]]
    assert clips(1, clips_per_video=4, placement="uniform") == [[2], [7], [12], [17]]
    by_time = clips(1, clips_per_video=2, placement="uniform", frames_per_second=7)
    assert by_time == [[5], [15]]


def test_uniform_clips_that_must_overlap_reach_from_end_to_end():
    assert clips(8, clips_per_video=4, placement="uniform")[0] == list(range(8))
    assert starts(8, [0], clips_per_video=4, placement="uniform").tolist() == [[0, 4, 8, 12]]
    by_time = clips(8, clips_per_video=3, placement="uniform", frames_per_second=10)
    assert [clip[0] for clip in by_time] == [0, 6, 12]
    assert by_time[2] == list(range(12, 20))


def test_one_uniform_clip_is_the_middle_one():
    for settings in ({}, {"frame_stride": 3}, {"frames_per_second": 4.0}):
        middle = clips(5, placement="middle", **settings)
        assert clips(5, placement="uniform", **settings) == middle
        assert clips(5, placement="middle", clips_per_video=2, **settings) == middle * 2


def test_jittered_clips_stay_in_their_parts_and_use_all_of_them():
    firsts = starts(4, range(200), clips_per_video=2, placement="jittered")
    assert set(firsts[:, 0]) == set(range(7)) and set(firsts[:, 1]) == set(range(10, 17))
    by_time = starts(
        4, range(200), clips_per_video=2, placement="jittered", frames_per_second=10
    )  # the clip takes 0.3 s of each second
    assert set(by_time[:, 0]) == set(range(7)) and set(by_time[:, 1]) == set(range(10, 17))


def test_jittered_clips_that_must_overlap_share_the_possible_starts():
    firsts = starts(8, range(200), clips_per_video=4, placement="jittered")  # 13 starts in 4 parts
    expected = [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11, 12}]
    assert [set(column) for column in firsts.T] == expected
    by_time = starts(8, range(200), clips_per_video=4, placement="jittered", frames_per_second=10)
    assert (np.diff(by_time) >= 0).all() and by_time.min() == 0 and by_time.max() >= 11


@pytest.mark.parametrize("placement", ["random", "middle", "uniform", "jittered"])
@pytest.mark.parametrize("settings", [{}, {"frame_stride": 3}, {"frames_per_second": 7.3}])
def test_no_clip_leaves_the_video_whatever_the_numbers(placement, settings):
    rng = np.random.default_rng(0)
    for seed in range(60):
        length, number = rng.integers(1, 7), rng.integers(1, 6)
        timestamps_seconds = np.cumsum(rng.uniform(0.02, 0.2, rng.integers(19, 60)))
        timestamps_seconds -= timestamps_seconds[0]
        settings = settings | {"clips_per_video": int(number), "placement": placement}
        settings = settings | {"short_video": "repeat_last"}
        found = np.array(clips(int(length), seed, timestamps_seconds, **settings))
        assert found.shape == (number, length)
        assert found.min() >= 0 and found.max() < len(timestamps_seconds)
        assert (np.diff(found, axis=1) >= 0).all()
        if placement != "random":
            assert (np.diff(found, axis=0) >= 0).all()


# Short videos.


def test_a_video_that_is_too_short_says_how_much():
    with pytest.raises(ClipTooShortError, match="clip needs 21 frames but the video has 20"):
        clips(21)
    with pytest.raises(ClipTooShortError, match=r"needs 25 frames \(9, every 3 frames\) but .* 20"):
        clips(9, frame_stride=3)
    message = r"64 frames at 10 frames per second \(6\.4 s\) but the video has 20 \(2\.0 s\)"
    with pytest.raises(ClipTooShortError, match=message):
        clips(64, frames_per_second=10)


def test_repeat_last_holds_the_last_frame():
    assert clips(23, short_video="repeat_last") == [[*range(20), 19, 19, 19]]
    assert clips(4, frame_stride=8, short_video="repeat_last") == [[0, 8, 16, 19]]
    assert clips(4, frames_per_second=1, short_video="repeat_last") == [[0, 10, 19, 19]]


def test_loop_starts_the_video_over():
    assert clips(23, short_video="loop") == [[*range(20), 0, 1, 2]]
    assert clips(4, frame_stride=8, short_video="loop") == [[0, 8, 16, 4]]
    assert clips(6, frames_per_second=1, short_video="loop") == [[0, 10] * 3]


@pytest.mark.parametrize("rate", [7, 10, 23.976, 29.97, 30])
def test_a_loop_by_time_starts_over_where_floats_do_not_divide(rate):
    for num_frames in range(2, 30):
        rounded = (np.arange(num_frames) / rate).astype(np.float32).astype(np.float64)
        (clip,) = clips(150, 0, rounded, frames_per_second=rate, short_video="loop")
        assert clip == [number % num_frames for number in range(150)]


@pytest.mark.parametrize("policy", ["repeat_last", "loop"])
def test_a_policy_for_short_videos_leaves_long_ones_alone(policy):
    for settings in ({}, {"frame_stride": 2}, {"frames_per_second": 6}):
        settings = settings | {"clips_per_video": 3}
        assert clips(9, short_video=policy, **settings) == clips(9, **settings)


def test_a_video_without_frames_is_refused_under_every_policy():
    for policy in ("skip", "repeat_last", "loop"):
        with pytest.raises(ClipTooShortError, match="no frames"):
            clips(2, timestamps_seconds=np.zeros(0), short_video=policy)


def test_a_clip_fits_exactly_up_to_the_videos_end():
    assert explain_misfit(20, 2.0, 20) is None
    assert explain_misfit(19, 1.9, 7, frame_stride=3) is None
    assert explain_misfit(18, 1.8, 7, frame_stride=3) is not None
    assert explain_misfit(20, 2.0, 20, frames_per_second=10) is None
    assert explain_misfit(20, 2.0, 21, frames_per_second=10) is not None


def test_a_single_frame_is_a_clip_of_one():
    assert clips(1, timestamps_seconds=np.array([0.0])) == [[0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"frames_per_second": 5, "frame_stride": 2},
            "exclude each other: give a rate in time, or",
        ),
        ({"frames_per_second": 0.0}, "frames_per_second must be above 0, got 0"),
        ({"frames_per_second": float("nan")}, "must be above 0, got nan"),
        ({"frame_stride": 0}, "frame_stride=0 must be at least 1"),
        ({"clips_per_video": 0}, "clips_per_video=0"),
        ({"placement": "official"}, "is `OfficialClipSampling`"),
        ({"short_video": "official"}, "is `OfficialClipSampling`"),
    ],
)
def test_settings_that_make_no_clip_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ClipSampling(4, **settings)


@pytest.mark.parametrize("sampling", [ClipSampling(4), OfficialClipSampling(4)])
def test_the_duration_of_a_video_that_fits_is_known_or_follows_from_its_times(sampling):
    """Five frames at 0, 0.1, ... 0.4 s: the last one lasts 0.1 s too, unless somebody knows."""
    times = np.arange(5) / 10
    assert fitting_duration(sampling, times, None) == pytest.approx(0.5)
    assert fitting_duration(sampling, times, 0.7) == 0.7
    with pytest.raises(ClipTooShortError, match="the video has"):
        fitting_duration(sampling, times[:0], None)
