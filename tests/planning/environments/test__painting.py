import numpy as np

from planning.environments._painting import averaged, with_disc

BLACK, WHITE = np.zeros((16, 24, 3)), np.full(3, 255.0)


def test_a_disc_covers_its_area_around_its_middle():
    picture = with_disc(BLACK, WHITE, column=9.0, row=6.5, radius=4.0)
    weights = picture[..., 0] / 255
    y, x = np.mgrid[:16, :24] + 0.5
    assert picture.dtype == np.uint8
    assert abs(weights.sum() - np.pi * 4.0**2) < 1.5
    assert np.allclose([(weights * x).sum(), (weights * y).sum()] / weights.sum(), (9.0, 6.5))


def test_its_edge_is_as_wide_as_a_pixel():
    row = with_disc(BLACK, WHITE, column=8.25, row=8.5, radius=4.0)[8, :, 0]
    assert row[4] == 191  # three quarters: its middle is 3.75 from the disc's
    assert row[5:12].tolist() == [255] * 7 and row[12] == 64 and row[13] == row[3] == 0


def test_squares_are_averaged():
    image = np.arange(4 * 4 * 3, dtype=float).reshape(4, 4, 3)
    small = averaged(image, 2)
    assert small.shape == (2, 2, 3) and np.array_equal(small[0, 1], image[:2, 2:].mean((0, 1)))
