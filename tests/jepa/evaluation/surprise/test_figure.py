"""Curves are laid over each other at the violation, and drawn."""

import io

import numpy as np
from PIL import Image

from jepa.evaluation.surprise.figure import mean_curves, surprise_figure

NAN = np.nan


def test_curves_meet_at_the_violation():
    first = (np.array([NAN, 1.0, 2.0, 3.0]), np.array([NAN, 1.0, 4.0, 5.0]), 2)
    second = (np.array([0.0, 6.0, 6.0, 6.0]), np.array([0.0, 8.0, 8.0, 8.0]), 1)
    possible, impossible = mean_curves([first, second], before=2, after=2)
    np.testing.assert_array_equal(possible, [NAN, (1 + 0) / 2, (2 + 6) / 2, (3 + 6) / 2])
    np.testing.assert_array_equal(impossible, [NAN, (1 + 0) / 2, (4 + 8) / 2, (5 + 8) / 2])


def pixels(**options):
    curve = np.linspace(0, 1, 20)
    data = surprise_figure(curve, curve**2, paper="#ffffff", **options)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_picture_shows_both_curves_and_marks_the_violation():
    plain, marked = pixels(), pixels(violation_frame=10)
    assert plain.shape == marked.shape == (520, 1120, 3)
    is_dark = (marked.sum(-1) < 200).sum(0) - (plain.sum(-1) < 200).sum(0)  # by column
    assert 400 < is_dark.argmax() < 750  # frame 10 of 0 to 19 is near the middle
    assert is_dark.max() > 100
