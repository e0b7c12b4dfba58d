"""Windows by hand."""

import numpy as np
import pytest

from jepa.evaluation.surprise.windows import VideoSurprise, WindowPlan, usual_contexts

NAN = float("nan")


def test_windows_begin_every_second_frame_and_stay_inside():
    plan = WindowPlan(length_frames=16, stride_frames=2)
    assert plan.starts(16).tolist() == [0]
    assert plan.starts(17).tolist() == [0]
    assert plan.starts(32).tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16]


def test_a_short_video_is_refused():
    with pytest.raises(ValueError, match="the video has 15 frames, a window 16"):
        WindowPlan().starts(15)


@pytest.mark.parametrize("contexts", [(), (0,), (16,), (2, 20)])
def test_contexts_must_show_something_and_leave_something(contexts):
    with pytest.raises(ValueError, match=r"contexts_frames must be in \[1, 15\]"):
        WindowPlan(contexts_frames=contexts)


def test_windows_without_length_or_stride_are_refused():
    with pytest.raises(ValueError, match="stride_frames=0"):
        WindowPlan(stride_frames=0)


def by_hand():
    """Two contexts (1 and 2 frames), two windows of 3 frames that begin at 0 and 2."""
    values = np.array([[[NAN, 1, 3], [NAN, 5, 7]], [[NAN, NAN, 4], [NAN, NAN, 2]]])
    return VideoSurprise(values, np.array([0, 2]), num_frames=6)


def test_each_window_is_the_mean_of_its_predicted_frames():
    np.testing.assert_array_equal(by_hand().per_window(), [[2, 6], [4, 2]])


def test_scores_by_hand():
    surprise = by_hand()
    assert surprise.score("mean", "mean") == (3 + 4) / 2
    assert surprise.score("max", "mean") == 4
    assert surprise.score("mean", "min") == (2 + 2) / 2
    assert surprise.score("max", "min") == 2
    with pytest.raises(ValueError, match="choose from mean, max; got 'median'"):
        surprise.score("median")  # pyright: ignore[reportArgumentType]


def test_the_curve_is_the_mean_of_what_was_predicted_of_a_frame():
    # frame 1: 1; frame 2: 3 and 4; frame 3: 5; frame 4: 7 and 2; frames 0 and 5 never.
    np.testing.assert_array_equal(by_hand().curve(), [NAN, 1, 3.5, 5, 4.5, NAN])


@pytest.mark.parametrize(
    ("length", "tubelet", "contexts"),
    [
        (16, 2, (2, 4, 6, 8, 10)),  # as of V-JEPA on IntPhys and GRASP
        (32, 2, (4, 8, 12, 16, 20)),  # as on InfLevel
        (8, 2, (2, 4, 6)),
        (4, 2, (2,)),
        (8, 1, (1, 2, 3, 4, 5)),
    ],
)
def test_usual_contexts_are_one_to_five_eighths(length, tubelet, contexts):
    assert usual_contexts(length, tubelet) == contexts
    WindowPlan(length, contexts_frames=contexts)
