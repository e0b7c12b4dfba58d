"""The tables are worked out by hand from what the official loader is documented to do.

Facts: `fstp = ceil(avg_fps) // fps`; a window is `fpc * fstp` frames; indices are
`linspace(start, start + window, fpc)`, limited to the window's last frame and cut off.
"""

import numpy as np
import pytest
import torch

from data_pipelines.clip_sampling import ClipTooShortError
from data_pipelines.official_clip_sampling import (
    OfficialClipSampling,
    official_clip_indices,
    official_frame_stride,
)

THIRTY_PER_SECOND = np.arange(300) / 30


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sixteen_frames_at_four_per_second_are_not_an_exact_stride():
    # 30 // 4 = 7, a window of 112 frames, and steps of 112 / 15 = 7.47.
    (clip,) = official_clip_indices(300, 16, frame_stride=7, starts=[0])
    expected = [0, 7, 14, 22, 29, 37, 44, 52, 59, 67, 74, 82, 89, 97, 104, 111]
    assert clip.tolist() == expected
    (moved,) = official_clip_indices(300, 16, frame_stride=7, starts=[50])
    assert (moved - clip).tolist() == [50] * 16


@pytest.mark.parametrize(
    ("num_frames", "clips", "overlap", "expected"),
    [
        # 4 frames, stride 4: a window of 16. Longer parts: 0, 16 / 3, 32 / 3, 16 -> 15.
        (17, 1, False, [[0, 5, 10, 15]]),
        (40, 2, False, [[0, 5, 10, 15], [20, 25, 30, 35]]),
        (40, 2, True, [[0, 5, 10, 15], [20, 25, 30, 35]]),
        # A part that is a window: the same without overlap; with it, 15 // 4 = 3 of 0 .. 15.
        (16, 1, False, [[0, 5, 10, 15]]),
        (16, 1, True, [[0, 7, 14, 14]]),
        # Parts of 10: 10 // 4 = 2 frames, 0 and 10 -> 9; the last again.
        (20, 2, False, [[0, 9, 9, 9], [10, 19, 19, 19]]),
        # Overlapping: 3 of 0 .. 15 and the last again; (20 - 16) // 1 = 4 frames on.
        (20, 2, True, [[0, 7, 14, 14], [4, 11, 18, 18]]),
        # Too short for a window: 15 // 4 = 3 of 0, 7.5, 15 -> 14.
        (15, 1, False, [[0, 7, 14, 14]]),
        (10, 3, True, [[0, 8, 8, 8]] * 3),
        # Too short for a stride: only the last.
        (3, 1, False, [[2, 2, 2, 2]]),
        # Fewer frames than clips: place -1, which decord reads as the last frame.
        (2, 3, False, [[1, 1, 1, 1]] * 3),
        (1, 2, True, [[0, 0, 0, 0]] * 2),
    ],
)
def test_parts_and_short_videos_follow_the_official_rules(num_frames, clips, overlap, expected):
    found = official_clip_indices(
        num_frames, 4, frame_stride=4, starts=[0] * clips, allow_clip_overlap=overlap
    )
    assert found.tolist() == expected and found.dtype == np.int64


def test_the_average_rate_is_rounded_up_before_it_is_divided():
    rates = {30.0: 7, 29.97: 7, 30.000002: 7, 27.2: 7, 28.01: 7, 25.0: 6, 60.0: 15, 3.0: 0}
    assert {rate: official_frame_stride(rate, 4) for rate in rates} == rates


def test_a_clip_starts_anywhere_but_at_the_last_possible_place():
    sampling = OfficialClipSampling(4, frame_stride=4)
    video = np.arange(20) / 10
    starts = {sampling.indices(video, generator=generator(seed))[0, 0].item() for seed in range(60)}
    assert starts == {0, 1, 2, 3}  # 4 would fit, too


def test_each_clip_has_its_own_place_in_its_own_part():
    sampling = OfficialClipSampling(16, frames_per_second=4, clips_per_video=2)
    found = sampling.indices(THIRTY_PER_SECOND, generator=generator())
    offsets = found - official_clip_indices(300, 16, frame_stride=7, starts=[0, 0])
    assert (offsets == offsets[:, :1]).all() and offsets[0, 0] != offsets[1, 0]
    assert (offsets >= 0).all() and (offsets < 150 - 112).all()
    fixed = OfficialClipSampling(
        16, frames_per_second=4, clips_per_video=2, has_random_starts=False
    ).indices(THIRTY_PER_SECOND, generator=generator())
    assert fixed[:, 0].tolist() == [0, 150]


def test_short_videos_are_padded_or_skipped():
    padded = OfficialClipSampling(16, frames_per_second=4)
    (clip,) = padded.indices(THIRTY_PER_SECOND[:30], generator=generator())
    assert clip.tolist() == [0, 10, 20, *[29] * 13]  # 30 // 7 = 4: 0, 10, 20, 30 -> 29
    skipping = OfficialClipSampling(16, frames_per_second=4, short_video="skip")
    with pytest.raises(ClipTooShortError, match="window of 112 frames but the video has 111"):
        skipping.indices(THIRTY_PER_SECOND[:111], generator=generator())
    assert skipping.explain_misfit(112, 112 / 30) is None


def test_a_slower_video_than_asked_is_named_instead_of_failing_an_assertion():
    with pytest.raises(ClipTooShortError, match=r"at 4 frames per second .* this one has 3\.00"):
        OfficialClipSampling(4, frames_per_second=4).indices(
            np.arange(90) / 3, generator=generator()
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames_per_second": 7.5}, "whole frames_per_second, got 7.5"),
        ({"short_video": "loop"}, "'skip' and 'official', got 'loop'"),
        ({"frames_per_second": 4, "frame_stride": 2}, "exclude each other"),
    ],
)
def test_what_the_official_sampler_does_not_know_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OfficialClipSampling(4, **settings)
