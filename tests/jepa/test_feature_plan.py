"""Which frames become which rows: worked out by hand, or true of every length and stride."""

import numpy as np
import pytest

from data_pipelines.transforms import CropBox
from jepa.feature_plan import (
    Options,
    Source,
    choose_cut,
    make_plan,
    sample_frames,
    tile,
    token_boxes,
)

TUBELET = 2


@pytest.fixture
def encoder(make_encoder):
    """Clips of 4 frames of 32 pixels: a grid of 2 x 4 x 4 tokens 48 wide."""
    return make_encoder().eval()


@pytest.mark.parametrize("stride", [2, 4, 6, 8])
@pytest.mark.parametrize("num_frames", [*range(2, 12), 16, 17, 31])
def test_no_frame_is_lost_and_every_row_shows_something_new(encoder, num_frames, stride):
    times = np.arange(num_frames) / 10
    source = Source("a.mp4", "video", 48, 64, times, times + 0.1)
    options = Options(clip_length_frames=8, stride_frames=stride)
    rows = make_plan(encoder, source, options).row_frames
    assert set(rows.ravel().tolist()) == set(range(num_frames))
    assert (np.diff(rows, axis=1) == 1).all()  # a tubelet is made of neighbours
    assert (np.diff(rows[:, -1]) >= 1).all() and (np.diff(rows[:, -1]) <= TUBELET).all()
    assert len(rows) == -(-num_frames // TUBELET)


def test_clips_tile_and_the_last_one_ends_at_the_end():
    assert tile(12, 4, 4) == (0, 4, 8)
    assert tile(13, 4, 4) == (0, 4, 8, 9)
    assert tile(4, 4, 4) == (0,)
    assert tile(9, 4, 2) == (0, 2, 4, 5)


def test_the_cut_is_the_centred_square_or_the_whole_frame_rounded_to_patches():
    assert choose_cut(48, 64, 32, 8, whole=False) == (CropBox(0, 8, 48, 48), (32, 32))
    assert choose_cut(60, 40, 32, 8, whole=False) == (CropBox(10, 0, 40, 40), (32, 32))
    assert choose_cut(48, 64, 32, 8, whole=True) == (CropBox(0, 0, 48, 64), (32, 40))  # of 42.7
    assert choose_cut(64, 48, 32, 8, whole=True) == (CropBox(0, 0, 64, 48), (40, 32))


def test_the_boxes_of_tokens_share_the_cut_among_them():
    boxes = token_boxes(CropBox(10, 4, 20, 30), (2, 3))
    assert boxes.shape == (2, 3, 4)
    assert boxes[0, 0].tolist() == [10, 4, 20, 14]
    assert boxes[1, 2].tolist() == [20, 24, 30, 34]


def test_a_rate_takes_the_frames_on_screen_and_ends_with_the_video():
    starts = np.array([0, 0.1, 0.3, 0.6])
    source = Source("a.mp4", "video", 48, 64, starts, np.array([0.1, 0.3, 0.6, 1.0]))
    assert sample_frames(source, None).tolist() == [0, 1, 2, 3]
    assert sample_frames(source, 5).tolist() == [0, 1, 2, 3, 3]  # at 0, 0.2, 0.4, 0.6, 0.8
    assert sample_frames(source, 2).tolist() == [0, 2]  # at 1.0 there is nothing any more
