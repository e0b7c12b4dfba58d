import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jepa.evaluation.report import pieces
from jepa.evaluation.report.pieces import Bar


def pictures(html):
    found = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", html)
    return [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in found]


def test_a_small_frame_is_exact_and_a_large_one_is_made_small():
    frame = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    (kind, exact), = pictures(pieces.photo(frame, "a"))  # fmt: skip
    assert kind == "png" and (np.asarray(exact) == frame).all()
    (kind, small), = pictures(pieces.photo(np.zeros((512, 256, 3), np.uint8), "b"))  # fmt: skip
    assert kind == "jpeg" and small.size == (96, 192)


def test_a_picture_says_its_size_and_words_escaped():
    html = pieces.photo(np.zeros((10, 20, 3), np.uint8), '"><script>')
    assert 'width="20" height="10"' in html and 'alt="&quot;&gt;&lt;script&gt;"' in html


def test_bars_are_as_long_as_their_values_and_never_longer_than_the_track():
    html = pieces.bar_chart([Bar("a<b", 0.5, 0.25, 1.0, is_ours=True), Bar("low", -3.0)], "caption")
    assert "a&lt;b" in html and "width:50.00%" in html
    assert "left:25.00%;width:75.00%" in html  # the longest end is 1.0
    assert "width:0.00%" in html and ">-3</data>" in html
    assert html.count('class="bar ours"') == 1


def test_a_player_holds_every_step_for_those_without_a_script():
    html = pieces.player(["x"], [("one", ["<i></i>"]), ("t<o", ["<b></b>"])], "c")
    assert html.count('class="step"') == 2 and 'data-name="t&lt;o"' in html
    assert 'max="1"' in html and "hidden" not in html


def test_a_pair_of_charts_is_for_light_and_dark():
    light, dark = (
        pieces.png_bytes(Image.new("RGB", (4, 2), colour)) for colour in ("white", "black")
    )
    html = pieces.picture_pair(light, dark, "words")
    assert html.index("prefers-color-scheme: dark") < html.index("<img")
    (_, first), (_, second) = pictures(html)
    assert first.convert("L").getpixel((0, 0)) == 0 and second.convert("L").getpixel((0, 0)) == 255


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, None])
def test_what_is_no_number_is_said_so(value):
    assert pieces.number(value) == "not a number"


def test_a_number_keeps_its_exact_value():
    assert pieces.number(0.12345) == '<data value="0.12345">0.123</data>'


@pytest.mark.parametrize(
    ("value", "text"),
    [(64, "64"), (12345, "12,345"), (0.12345, "0.123"), (0.6, "0.6"), (31.42, "31.4"), (0.0, "0")],
)
def test_numbers_are_rounded_to_three_digits_and_whole_ones_stay_whole(value, text):
    assert pieces.rounded(value) == text
