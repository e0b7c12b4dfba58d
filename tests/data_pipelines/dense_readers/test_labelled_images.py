"""Tiny data sets in the layouts of VOC, ADE20K and Cityscapes, and two folders of one's own."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.dense_labels import IGNORED
from data_pipelines.dense_readers.base import open_dense
from data_pipelines.dense_readers.labelled_images import open_source
from data_pipelines.importers.base import SourceError

VALUES = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)


def pair(folder, picture, label, values=VALUES):
    for place, array in ((picture, np.full((2, 3, 3), 90, np.uint8)), (label, values)):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / place)


@pytest.mark.parametrize(
    ("picture", "label", "key"),
    [
        ("JPEGImages/2007_1.jpg", "SegmentationClass/2007_1.png", "2007_1"),
        (
            "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png",
            "gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png",
            "val-ulm-ulm_1_gtFine_labelTrainIds",
        ),
        ("images/a b.jpg", "labels/a b.png", "a_b"),
        ("images/x.png", "labels/x.png", "x"),
    ],
)
def test_classes_are_the_numbers_of_the_png(tmp_path, picture, label, key):
    pair(tmp_path, picture, label)
    source = open_dense(tmp_path)
    clip = source.clip(0)
    assert source.keys == (key,) and clip.key == key
    assert clip.classes[0].tolist() == [[0, 1, 2], [3, IGNORED, 0]]
    assert abs(int(clip.frames[0, 0, 0, 0]) - 90) < 3


def test_in_ade20k_0_is_no_class_and_classes_count_from_1(tmp_path):
    pair(tmp_path, "images/validation/a.jpg", "annotations/validation/a.png")
    clip = open_dense(tmp_path).clip(0)
    assert clip.key == "validation-a"
    assert clip.classes[0].tolist() == [[IGNORED, 0, 1], [2, IGNORED, IGNORED]]


def test_names_of_classes_are_read(tmp_path):
    pair(tmp_path, "images/x.png", "labels/x.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\nman\n")
    assert open_dense(tmp_path).clip(0).class_names == ("sky", "road", "car", "man")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    with pytest.raises(SourceError, match=r"x\.png: class 3, but there are 3, from 0"):
        open_dense(tmp_path).clip(0)


def test_a_label_of_another_size_is_named(tmp_path):
    pair(tmp_path, "images/x.png", "labels/x.png", values=np.zeros((2, 4), np.uint8))
    with pytest.raises(SourceError, match=r"x\.png: its pictures differ in size"):
        open_source(tmp_path).clip(0)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no folders of pictures and labels: JPEGImages and"):
        open_source(tmp_path)
