"""A tiny DAVIS 2017: real JPEGs, and PNGs with a palette."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.dense_labels import IGNORED
from data_pipelines.dense_readers.base import open_dense
from data_pipelines.dense_readers.davis import open_source
from data_pipelines.frames import DecodeError
from data_pipelines.importers.base import SourceError


def palette_png(path, values):
    image = Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([channel for i in range(256) for channel in (i, 255 - i, 7 * i % 256)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def davis(tmp_path):
    """Two videos of three frames of 6 x 8; object 2 moves to the right."""
    for video in ("cows", "bike"):
        for time in range(3):
            picture = tmp_path / "JPEGImages/480p" / video / f"{time:05d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 8, 3), 40 * time, np.uint8)).save(picture)
            values = np.zeros((6, 8))
            values[1:3, time : time + 2], values[5, 7] = 2, 255
            palette_png(tmp_path / "Annotations/480p" / video / f"{time:05d}.png", values)
    return tmp_path


def test_masks_are_the_indices_of_the_palette(davis):
    source = open_dense(davis)
    assert source.keys == ("bike", "cows")
    clip = source.clip(1)
    assert clip.key == "cows" and clip.frames.shape == (3, 6, 8, 3)
    assert [clip.frames[time].mean().round() for time in range(3)] == [0, 40, 80]
    for time in range(3):
        assert np.argwhere(clip.object_ids[time] == 2).tolist() == [
            [y, x] for y in (1, 2) for x in (time, time + 1)
        ]
    assert (clip.object_ids[:, 5, 7] == IGNORED).all()
    assert clip.classes is None  # objects of DAVIS have no classes


def test_a_mask_without_a_picture_is_named(davis):
    (davis / "JPEGImages/480p/bike/00001.jpg").unlink()
    with pytest.raises(SourceError, match=r"00001\.png: there is no picture .*00001\.jpg"):
        open_source(davis).clip(0)


def test_a_mask_of_another_size_is_named(davis):
    palette_png(davis / "Annotations/480p/bike/00001.png", np.zeros((6, 9)))
    with pytest.raises(SourceError, match="its pictures differ in size"):
        open_source(davis).clip(0)


def test_a_mask_in_colours_is_named(davis):
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(davis / "Annotations/480p/bike/00001.png")
    with pytest.raises(DecodeError, match=r"00001\.png: .*colours \(RGB\), not numbers"):
        open_source(davis).clip(0)


def test_folders_without_masks_are_refused(tmp_path):
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / name / "480p").mkdir(parents=True)
    with pytest.raises(SourceError, match="no folder of masks"):
        open_source(tmp_path)
