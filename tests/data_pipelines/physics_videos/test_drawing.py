"""Pictures show what is where, with soft edges."""

import numpy as np

from data_pipelines.physics_videos.drawing import draw_frames
from data_pipelines.physics_videos.scenes import Block, Look, Scene

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def scene(*, screens=(), shape="disc"):
    return Scene((WHITE, WHITE), (Look(0.25, shape, RED),), screens=screens, screen_colour=BLUE)


def test_a_disc_is_as_large_and_where_it_should_be():
    frame = draw_frames(scene(), np.array([[[0.5, 0.5]]]), size=64)[0].astype(float)
    redness = 1 - frame[..., 1] / 255  # (64, 64), the share of each pixel that is covered
    assert abs(redness.sum() - np.pi * 16**2) < 0.03 * np.pi * 16**2
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert abs((redness * columns).sum() / redness.sum() - 32) < 0.25
    assert abs((redness * rows).sum() / redness.sum() - 32) < 0.25


def test_edges_are_soft():
    frame = draw_frames(scene(), np.array([[[0.5, 0.5]]]), size=64)[0]
    assert 50 < ((frame[..., 1] > 0) & (frame[..., 1] < 255)).sum() < 400


def test_a_quarter_of_a_pixel_is_seen():
    square = scene(shape="square")
    frames = draw_frames(square, np.array([[[0.5, 0.5]], [[0.5 + 0.25 / 64, 0.5]]]), size=64)
    moved = frames[0].astype(int) - frames[1].astype(int)
    assert np.abs(moved).max() in (63, 64)  # a quarter of 255


def test_a_screen_hides_what_is_behind_it_and_nothing_is_drawn_of_what_is_not_there():
    hides = scene(screens=(Block(0.2, 0.2, 0.8, 0.8),))
    frames = draw_frames(hides, np.array([[[0.5, 0.5]], [[np.nan, np.nan]]]), size=32)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0][16, 16] == BLUE).all()
