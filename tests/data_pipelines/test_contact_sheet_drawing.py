import numpy as np
import pytest

from data_pipelines.contact_sheet_drawing import (
    CROP_COLOURS,
    RED,
    YELLOW,
    _font,
    _words_of_crops,
    draw_sheet,
    frame_size,
    framed,
    shortened,
    shown_crop,
    wrapped,
)
from data_pipelines.contact_sheet_rows import MOST_CROPS, Columns, Crop, Row
from data_pipelines.transforms import CropBox


def row_of(height, width, *, frames=3, **more):
    pixels = np.full((frames, height, width, 3), 200, np.uint8)
    return Row("key", pixels=pixels, timestamps_seconds=np.arange(frames) / 10, **more)


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (128, 128, (128, 128)),
        (1080, 1920, (128, 228)),
        (640, 360, (228, 128)),
        (64, 64, (128, 128)),
        (64, 6400, (2, 228)),
        (1, 5000, (1, 228)),
    ],
)
def test_a_frame_keeps_its_shape_and_fits_a_row(height, width, shown):
    assert frame_size(height, width) == shown


def test_the_crop_is_drawn_where_it_is():
    """A frame of 256 x 512 is shown at 114 x 228; the crop covers its right lower quarter."""
    crop = CropBox(top=128, left=256, height=128, width=256)
    assert shown_crop(crop, 256, 512) == (114, 57, 227, 113)
    picture = np.asarray(framed(np.full((256, 512, 3), 200, np.uint8), [crop]))
    assert picture.shape == (114, 228, 3)
    assert (picture[:57] == 100).all() and (picture[:, :114] == 100).all()  # outside: half as light
    assert (picture[60:110, 118:224] == 200).all()
    is_yellow = (picture == YELLOW).all(-1)
    assert is_yellow[57, 114:].all() and is_yellow[113, 114:].all()
    assert is_yellow[57:, 114].all() and is_yellow[57:, 227].all()


def test_a_crop_of_the_whole_frame_is_the_frame_with_an_edge():
    picture = np.asarray(framed(np.full((50, 70, 3), 200, np.uint8), [CropBox(0, 0, 50, 70)]))
    assert (picture[2:-2, 2:-2] == 200).all() and (picture[0] == YELLOW).all()


def test_each_of_several_crops_has_its_colour_and_only_what_is_outside_all_is_dark():
    boxes = [CropBox(0, 0, 64, 40), CropBox(64, 60, 64, 68)]
    picture = np.asarray(framed(np.full((128, 128, 3), 200, np.uint8), boxes))
    assert (picture[0, :40] == CROP_COLOURS[0]).all() and (picture[63, :40] == YELLOW).all()
    assert (picture[64, 60:128] == CROP_COLOURS[1]).all()
    assert (picture[3:60, 3:37] == 200).all() and (picture[67:125, 63:125] == 200).all()
    assert (picture[:60, 44:] == 100).all() and (picture[68:, :58] == 100).all()
    assert len(set(CROP_COLOURS)) == MOST_CROPS


def test_a_rows_words_name_every_crop_behind_its_colour():
    crops = (Crop(CropBox(0, 0, 30, 40)), Crop(CropBox(0, 0, 20, 10), is_mirrored=True))
    row = row_of(48, 64, crops=crops)
    assert _words_of_crops(row) == ["crop 40 x 30", "crop 10 x 20, mirrored"]
    left = np.asarray(draw_sheet([row], title="t", about=[]))[:, :300]  # without the frames
    for colour in CROP_COLOURS[:2]:
        assert (left == colour).all(-1).sum() == 8 * 8
    assert not (left == CROP_COLOURS[2]).all(-1).any()


def test_long_words_lose_their_middle():
    font = _font(13)
    text = shortened("a/very/long/folder/of/a/recording/video_0001", font, 150)
    assert font.getlength(text) <= 150 < font.getlength(text + "mm")
    assert text.startswith("a/very/") and "…" in text and text.endswith("0001")
    assert shortened("short", font, 150) == "short"
    assert shortened("two\nlines", font, 150) == "two?lines"


def test_reasons_are_wrapped_at_words():
    lines = wrapped("one two three four five six", _font(13), 80)
    assert " ".join(lines) == "one two three four five six" and len(lines) > 1
    assert all(_font(13).getlength(line) <= 80 for line in lines)


def test_a_row_without_a_clip_says_why_in_red():
    picture = np.asarray(draw_sheet([Row("key", reason="it is broken")], title="t", about=[]))
    num_red = (picture == RED).all(-1).sum()
    assert num_red > 1000
    whole = np.asarray(draw_sheet([row_of(48, 64)], title="t", about=[]))
    assert (whole == RED).all(-1).sum() == 0


def test_rows_lie_below_each_other_and_the_widest_one_decides_the_width():
    wide, tall = row_of(64, 640, frames=8), row_of(640, 64, frames=8)
    heights = [draw_sheet([row], title="t", about=[]).height for row in (wide, tall)]
    both = draw_sheet([wide, tall], title="t", about=[])
    head = draw_sheet([wide], title="t", about=[]).height * 2
    head -= draw_sheet([wide, wide], title="t", about=[]).height
    assert both.height == sum(heights) - head
    assert both.width == 2 * 16 + 300 + 8 * 228 + 7 * 6


@pytest.mark.parametrize("num_frames", [1, 8])
@pytest.mark.parametrize("num_columns", [1, 30])
def test_any_number_of_columns_is_drawn_below_the_frames(num_frames, num_columns):
    values = np.random.default_rng(0).normal(size=(8, num_columns)).astype(np.float32)
    names = tuple(f"joint {number}" for number in range(num_columns))
    columns = Columns("states", names, ("radians",) * num_columns, values, np.arange(8) / 10)
    with_plot = row_of(48, 64, frames=num_frames, columns=(columns,))
    plain = draw_sheet([row_of(48, 64, frames=num_frames)], title="t", about=[])
    drawn = draw_sheet([with_plot], title="t", about=[])
    assert drawn.height - plain.height in (56 + 6, 15 * 12 + 4 + 6)
    below = np.asarray(drawn)[plain.height - 8 : -8, 316:]
    assert (below == (31, 119, 180)).all(-1).sum() > 10  # the first column's curve
