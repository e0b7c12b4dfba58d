"""Images from strangers become upright RGB bytes, or one line that names the file."""

import pickle
import re

import numpy as np
import pytest
from PIL import Image

from data_pipelines.frames import DecodeError
from data_pipelines.images import decode_image, read_image, read_pixel_values

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def test_a_png_is_read_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.bmp", "a.gif", "a.tif", "a.ppm"])
def test_every_format_keeps_red_red(tmp_path, name):
    read = read_image(saved(Image.new("RGB", (16, 8), RED), tmp_path / name))
    assert read.shape == (8, 16, 3)
    assert np.abs(read.astype(int) - RED).max() < 6


def test_a_photograph_taken_sideways_stands_upright(tmp_path):
    # Orientation 6: the camera was turned; what is the left of the file is the top of the scene.
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 0] = RED
    exif = Image.Exif()
    exif[0x0112] = 6
    read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png", exif=exif))
    assert read.shape == (4, 2, 3)
    assert (read[0] == RED).all() and (read[1:] == 0).all()


def test_transparent_pixels_show_white_and_half_transparent_ones_the_mean(tmp_path):
    pixels = np.array([[(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)]], np.uint8)
    read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[0, 1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(read[0, 2], 127, atol=1)


def test_grey_with_alpha_is_laid_on_white_too(tmp_path):
    pixels = np.array([[(10, 255), (10, 0)]], np.uint8)
    read = read_image(saved(Image.fromarray(pixels, "LA"), tmp_path / "a.png"))
    assert read[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def test_a_palette_becomes_colours_and_its_transparent_entry_white(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    read = read_image(saved(image, tmp_path / "a.png", transparency=1))
    assert read[0].tolist() == [[*RED], [255, 255, 255], [*BLUE]]


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path):
    values = np.array([[0, 255, 256, 0x80FF, 65535]], np.uint16)
    read = read_image(saved(Image.fromarray(values), tmp_path / "a.png"))
    assert read[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (read == read[..., :1]).all()


def test_black_and_white_becomes_0_and_255(tmp_path):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert read_image(saved(image, tmp_path / "a.png"))[0, :, 1].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 2), np.float32), "its pixels are floats"),
        (np.full((2, 2), 70_000, np.int32), "go from 70000 to 70000, not 0 to 65535"),
    ],
)
def test_pixels_without_an_agreed_range_are_refused(tmp_path, values, reason):
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.raises(DecodeError, match=rf"a\.tif: .*{reason}"):
        read_image(path)


def test_words_named_png_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(DecodeError, match=r"a\.png: not an image, or none of PNG, JPEG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif"])
def test_an_image_cut_short_is_refused_by_name_in_one_line(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(pixels), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DecodeError, match=re.escape(f"{name}: ")) as raised:
        read_image(path)
    assert "\n" not in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize("times_the_limit", [1.5, 3])
def test_an_image_above_the_limit_of_pil_is_refused_as_an_error(
    tmp_path, monkeypatch, times_the_limit
):
    path = saved(Image.new("L", (100, 60)), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(6000 / times_the_limit))
    with pytest.raises(DecodeError, match=r"bomb\.png: the image has more than .*,000 pixels"):
        read_image(path)


def test_a_format_that_starts_a_program_is_not_opened(tmp_path):
    path = saved(Image.new("RGB", (8, 8), RED), tmp_path / "a.eps")
    with pytest.raises(DecodeError, match="not an image, or none of"):
        read_image(path)


@pytest.mark.parametrize("name", ["nowhere.png", "."])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no image file"):
        read_image(tmp_path / name)


def test_an_image_in_memory_is_read_as_the_file_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image((tmp_path / "a.png").read_bytes(), "a"), pixels)
    with pytest.raises(DecodeError, match=r"^row 3: not an image"):
        decode_image(b"words", "row 3")


def test_numbers_of_a_png_are_read_as_they_are(tmp_path):
    values = np.array([[0, 1, 65535], [256, 7, 9]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "depth.png")
    Image.fromarray((values % 256).astype(np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_pixel_values(tmp_path / "depth.png"), values)
    read = read_pixel_values(tmp_path / "grey.png")
    np.testing.assert_array_equal(read, values % 256)
    assert read.dtype == np.uint8


def test_indices_of_a_palette_are_numbers_and_colours_are_not(tmp_path):
    image = Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P")
    image.putdata([0, 3, 2, 1])
    image.putpalette([200, 100, 50] * 4)
    image.save(tmp_path / "palette.png")
    assert read_pixel_values(tmp_path / "palette.png").tolist() == [[0, 3], [2, 1]]
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(DecodeError, match=r"its pixels are colours \(RGB\), not numbers"):
        read_pixel_values(tmp_path / "colours.png")


def test_numbers_come_of_a_whole_png_only(tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DecodeError, match=r"text\.png: not a PNG"):
        read_pixel_values(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match="no image file"):
        read_pixel_values(tmp_path / "nothing.png")
