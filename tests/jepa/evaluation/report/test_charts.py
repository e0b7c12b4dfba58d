import io

import numpy as np
import pytest
from PIL import Image

from jepa.evaluation.report import charts


def opened(content):
    return Image.open(io.BytesIO(content))


def test_the_same_feature_has_the_same_colour_in_every_frame():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3, 4, 4, 8))
    features[1, 2, 3] = features[0, 0, 0]
    colours, share = charts.pca_colours(features)
    assert (colours[1, 2, 3] == colours[0, 0, 0]).all()
    swapped, _ = charts.pca_colours(features[[2, 1, 0]])
    assert (np.abs(swapped.astype(int) - colours[[2, 1, 0]]) <= 1).all()
    assert 0 < share < 1


def test_three_components_show_all_of_features_that_have_three():
    features = np.random.default_rng(0).normal(size=(2, 3, 3, 3)) @ np.eye(3, 10)
    colours, share = charts.pca_colours(features)
    assert share == pytest.approx(1)
    assert colours.shape == (2, 3, 3, 3) and colours.dtype == np.uint8
    assert np.ptp(colours, axis=(0, 1, 2)).tolist() == [255, 255, 255]


def test_constant_features_and_features_of_two_dimensions_have_colours():
    constant, share = charts.pca_colours(np.ones((2, 3, 3, 4)))
    assert share == 0 and len(np.unique(constant)) == 1
    assert charts.pca_colours(np.random.default_rng(0).normal(size=(1, 3, 3, 2)))[1] == 1


def test_a_strip_holds_each_image_and_clear_gaps():
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    strip = np.asarray(opened(charts.image_strip(frames, height=128, gap=4)))
    assert strip.shape == (128, 3 * 128 + 2 * 4, 4)
    for index, frame in enumerate(frames):
        left = index * 132
        assert (strip[::2, left : left + 128 : 2, :3] == frame).all()
        assert (strip[:, left + 128 : left + 132, 3] == 0).all()


def test_a_picture_is_enlarged_by_whole_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = np.asarray(opened(charts.image_png(image, scale=3)))
    assert (large[::3, ::3] == image).all() and (large[2::3, 1::3] == image).all()


def test_a_chart_is_clear_and_the_same_each_time():
    def drawn(theme):
        figure, axes = charts.empty_chart(200, 120, theme)
        axes.plot([0, 1], [0, 1], label="line")
        charts.put_title(axes, "Title", theme)
        charts.put_legend(axes, theme, place="lower right")
        return charts.chart_png(figure)

    light = np.asarray(opened(drawn(charts.LIGHT)))
    assert light.shape == (240, 400, 4) and light[0, 0, 3] == 0
    assert drawn(charts.LIGHT) == drawn(charts.LIGHT) != drawn(charts.DARK)
