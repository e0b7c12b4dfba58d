import io

import numpy as np
import pytest
from PIL import Image

from jepa.evaluation.report.charts import DARK
from jepa.evaluation.world_model_card.card import CardSettings, measure_card
from jepa.evaluation.world_model_card.drift import measure_drift
from jepa.evaluation.world_model_card.figures import card_figures, drift_figure, response_figure
from jepa.evaluation.world_model_card.response import measure_response

WEAK = ((0.2, 0.0), (0.0, 0.2))


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def has_red(png):
    image = pixels(png)
    return bool(((image[..., 0] > 150) & (image[..., 1:] < 100).all(-1)).any())


@pytest.fixture(scope="module")
def card(toys):
    others = {"heavy": toys.windows(noise=0.2, seed=3)}
    settings = CardSettings(repeats=3)
    return measure_card(toys.world(), toys.windows(noise=0.2), others, settings=settings)


def test_every_part_that_was_measured_has_a_picture_for_a_light_and_a_dark_page(card):
    light, dark = card_figures(card), card_figures(card, theme=DARK)
    assert set(light) == set(dark) == {"drift", "response", "latency", "shifts"}
    assert min(np.median(pixels(png)) for png in light.values()) > 220
    assert max(np.median(pixels(png)) for png in dark.values()) < 60


def test_what_was_not_measured_has_no_picture(toys):
    card = measure_card(
        toys.world(), toys.windows(num_episodes=1), {}, settings=CardSettings(repeats=1)
    )
    assert set(card_figures(card)) == {"latency"}


def test_another_drift_is_another_picture(toys):
    windows = toys.windows(noise=0.2)
    first, again, other = (
        drift_figure(measure_drift(toys.world(**options), windows))
        for options in ({}, {}, {"push": WEAK})
    )
    assert first == again
    assert first != other


def test_a_dead_dimension_is_red(toys):
    windows, half_dead = toys.windows(), toys.world(push=((1.0, 0.0), (0.0, 0.0)))
    assert has_red(response_figure(measure_response(half_dead, windows)))
    assert not has_red(response_figure(measure_response(toys.world(), windows)))
