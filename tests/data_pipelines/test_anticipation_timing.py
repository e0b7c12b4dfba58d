import numpy as np
import pytest

from data_pipelines.action_segments import ActionSegment
from data_pipelines.anticipation_timing import (
    OFFICIAL_TRAINING_POINT,
    TRAINING_SECONDS,
    AnticipationTiming,
    plan_clips,
)
from data_pipelines.clip_sampling import frames_on_screen

SEGMENT = ActionSegment("s", "v", 10.0, 14.0, 0, 0)


def frames_seen(timing, *, video_fps=60.0, segment=SEGMENT):
    """The exact frames of a long video that a clip shows."""
    (clip,) = plan_clips([segment], {"v": 20.0}, timing).clips
    return frames_on_screen(np.arange(1200) / video_fps, clip.moments_seconds)


def test_the_papers_clip_ends_one_second_before_the_action_starts():
    # 9 s is frame 540; every 7.5th frame before it, 32 of them: 5 s is frame 300
    frames = frames_seen(AnticipationTiming())
    assert frames[[0, 1, 2, 3, -2, -1]].tolist() == [300, 307, 315, 322, 525, 532]
    assert len(frames) == 32


def test_the_official_clip_ends_one_second_before_the_action_ends():
    # af = ef - 60 = 14 * 60 - 60 = 780, as the released code counts; so frames 540 to 772
    frames = frames_seen(AnticipationTiming(anchor="official"))
    assert frames[[0, -1]].tolist() == [540, 772]
    is_in_the_action = frames >= 10 * 60
    assert is_in_the_action.sum() == 24  # most of what is "anticipated" is seen


@pytest.mark.parametrize(("point", "end_seconds"), [(0.0, 13.0), (0.25, 12.0), (1.0, 9.0)])
def test_the_official_point_moves_the_anchor_towards_the_start(point, end_seconds):
    timing = AnticipationTiming(anchor="official", point=(point, point))
    assert timing.end_seconds(SEGMENT, 1.0, point) == end_seconds
    official = int(10 * 60 * point + (1 - point) * 14 * 60 - 60)  # af of the released code
    assert official == end_seconds * 60


def test_the_official_point_one_is_the_papers_clip():
    paper = frames_seen(AnticipationTiming())
    official = frames_seen(AnticipationTiming(anchor="official", point=(1.0, 1.0)))
    np.testing.assert_array_equal(paper, official)


def test_the_clip_and_the_gap_fill_the_time_before_the_action():
    # the next tubelets after the clip, 4 of 2 frames at 8 fps, last until the action starts
    timing = AnticipationTiming()
    moments = timing.moments_seconds(timing.end_seconds(SEGMENT, 1.0))
    np.testing.assert_allclose(np.diff(moments), 1 / 8)
    assert moments[-1] + 1 / 8 + 4 * 2 / 8 == SEGMENT.start_seconds


def test_training_draws_its_times_from_the_papers_range():
    timing = AnticipationTiming(anticipation_seconds=TRAINING_SECONDS)
    plan = plan_clips([SEGMENT], {"v": 20.0}, timing, draws_per_segment=400)
    times = np.array([clip.anticipation_seconds for clip in plan.clips])
    assert 0.25 <= times.min() < 0.27 and 1.73 < times.max() <= 1.75
    assert times.mean() == pytest.approx(1.0, abs=0.1)
    ends = np.array([clip.moments_seconds[-1] for clip in plan.clips])
    np.testing.assert_allclose(ends, 10.0 - times - 1 / 8)
    assert {clip.row for clip in plan.clips} == {0}


def test_the_same_seed_draws_the_same_times_whatever_else_is_in_the_table():
    timing = AnticipationTiming(anticipation_seconds=TRAINING_SECONDS)
    other = ActionSegment("t", "w", 10.0, 14.0, 0, 0)
    both = plan_clips([SEGMENT, other], {"v": 20.0, "w": 20.0}, timing, seed=5)
    one = plan_clips([SEGMENT, other], {"v": 20.0}, timing, seed=5)
    assert one.clips[0].anticipation_seconds == both.clips[0].anticipation_seconds
    assert both.clips[0].anticipation_seconds != both.clips[1].anticipation_seconds


def test_official_training_draws_a_point_as_well():
    timing = AnticipationTiming(
        anticipation_seconds=TRAINING_SECONDS, anchor="official", point=OFFICIAL_TRAINING_POINT
    )
    plan = plan_clips([SEGMENT], {"v": 20.0}, timing, draws_per_segment=200)
    anchors = [c.moments_seconds[-1] + 1 / 8 + c.anticipation_seconds for c in plan.clips]
    assert 13.0 <= min(anchors) < 13.1 and 13.9 < max(anchors) <= 14.0


def at(start_seconds, name="near"):
    return ActionSegment(name, "v", start_seconds, start_seconds + 1, 0, 0)


def test_an_action_too_near_the_start_is_left_out_and_named():
    plan = plan_clips([at(4.9), SEGMENT, at(5.0, "fits")], {"v": 20.0}, AnticipationTiming())
    assert [clip.segment.name for clip in plan.clips] == ["s", "fits"]
    assert [clip.row for clip in plan.clips] == [1, 2]
    assert plan.skipped == (("near", "the clip would begin 0.10 s before the video"),)


def test_which_actions_are_used_does_not_depend_on_the_draws():
    timing = AnticipationTiming(anticipation_seconds=TRAINING_SECONDS)
    plan = plan_clips([at(5.7), SEGMENT], {"v": 20.0}, timing, draws_per_segment=5)
    assert [name for name, _ in plan.skipped] == ["near"]  # 4 s + 1.75 s do not fit


def test_the_first_frame_may_stand_for_what_is_missing():
    timing = AnticipationTiming(short_start="repeat_first")
    frames = frames_seen(timing, segment=at(2.0))  # the clip ends at 1 s: 8 frames are there
    assert frames.tolist() == [0] * 24 + [0, 7, 15, 22, 30, 37, 45, 52]
    plan = plan_clips([at(1.0), SEGMENT], {"v": 20.0}, timing)
    assert plan.skipped[0].reason == "the clip would end before the video begins"


def test_missing_unreadable_and_short_videos_are_named():
    segments = [SEGMENT, *(ActionSegment(name, name, 10, 11, 0, 0) for name in ("w", "x", "y"))]
    plan = plan_clips(
        segments, {"v": 20.0, "y": 8.0}, AnticipationTiming(), unreadable={"x": "it is no video"}
    )
    assert plan.skipped == (
        ("w", "there is no video w"),
        ("x", "it is no video"),
        ("y", "the video ends at 8.00 s, the clip looks at 8.88 s"),
    )


def test_if_nothing_is_left_the_first_reason_is_told():
    with pytest.raises(ValueError, match="none of 1 actions can be used; first: near: the clip"):
        plan_clips([at(1.0)], {"v": 20.0}, AnticipationTiming())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_length_frames": 0}, "clip_length_frames=0 must be at least 1"),
        ({"frames_per_second": 0.0}, "frames_per_second=0 above 0"),
        ({"anticipation_seconds": (2.0, 1.0)}, "least <= greatest, got 2 to 1"),
        ({"anticipation_seconds": (-1.0, 1.0)}, "0 <= least"),
        ({"anchor": "stop"}, "anchor must be one of start, official; got 'stop'"),
        ({"short_start": "pad"}, "short_start must be one of skip, repeat_first; got 'pad'"),
        ({"anchor": "official", "point": (0.0, 1.5)}, "point must be 0 <= least"),
        ({"point": (0.0, 0.25)}, "is of anchor='official'; 'start' has none"),
    ],
)
def test_impossible_timings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AnticipationTiming(**settings)
