import numpy as np
import pytest
import torch

from data_pipelines.clip_sampling import (
    ClipTooShortError,
    clip_indices_at,
    explain_misfit,
    frames_on_screen,
    sample_clip_indices,
)

TEN_PER_SECOND = np.arange(20) / 10


def test_at_the_videos_own_rate_frames_are_consecutive():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        clip = sample_clip_indices(TEN_PER_SECOND, 6, generator=generator)
        assert np.diff(clip).tolist() == [1] * 5
        assert clip[0] >= 0 and clip[-1] <= 19


def test_every_start_is_drawn_and_about_equally_often():
    generator = torch.Generator().manual_seed(0)
    starts = [sample_clip_indices(TEN_PER_SECOND, 17, generator=generator)[0] for _ in range(400)]
    assert set(starts) == {0, 1, 2, 3}
    assert min(np.bincount(starts)) > 70


def test_half_the_rate_takes_every_second_frame():
    clip = clip_indices_at(TEN_PER_SECOND, 5, fraction=0.0, frames_per_second=5)
    assert clip.tolist() == [0, 2, 4, 6, 8]


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
    clip = clip_indices_at(TEN_PER_SECOND, 4, fraction=0.0, frames_per_second=20)
    assert clip.tolist() == [0, 0, 1, 1]


def test_the_last_clip_ends_with_the_last_frame():
    clip = clip_indices_at(TEN_PER_SECOND, 4, fraction=0.999999, frames_per_second=2)
    assert clip.tolist() == [4, 9, 14, 19]  # starts at 0.499 s


def test_the_same_generator_gives_the_same_clip():
    clips = [
        sample_clip_indices(TEN_PER_SECOND, 4, generator=torch.Generator().manual_seed(7))
        for _ in range(2)
    ]
    assert clips[0].tolist() == clips[1].tolist()


def test_a_video_that_is_too_short_says_how_much():
    with pytest.raises(ClipTooShortError, match="clip needs 21 frames but the video has 20"):
        clip_indices_at(TEN_PER_SECOND, 21, fraction=0.5)
    message = r"64 frames at 10 frames per second \(6\.4 s\) but the video has 20 \(2\.0 s\)"
    with pytest.raises(ClipTooShortError, match=message):
        clip_indices_at(TEN_PER_SECOND, 64, fraction=0.5, frames_per_second=10)


def test_repeat_last_holds_the_last_frame():
    clip = clip_indices_at(TEN_PER_SECOND, 23, fraction=0.9, short_video="repeat_last")
    assert clip.tolist() == [*range(20), 19, 19, 19]
    slow = clip_indices_at(
        TEN_PER_SECOND, 4, fraction=0.9, frames_per_second=1, short_video="repeat_last"
    )
    assert slow.tolist() == [0, 10, 19, 19]


def test_a_clip_fits_exactly_up_to_the_videos_end():
    assert explain_misfit(20, 2.0, 20) is None
    assert explain_misfit(20, 2.0, 20, frames_per_second=10) is None
    assert explain_misfit(20, 2.0, 21, frames_per_second=10) is not None


def test_a_single_frame_is_a_clip_of_one():
    assert clip_indices_at(np.array([0.0]), 1, fraction=0.7).tolist() == [0]
