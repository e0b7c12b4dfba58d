"""How the reader that fits a folder is found."""

import numpy as np
import pytest

from data_pipelines.dense_labels import DenseClip, write_dense_clip
from data_pipelines.dense_readers.base import layouts, one_size, open_dense
from data_pipelines.importers.base import SourceError


def test_every_reader_says_in_one_line_what_it_reads():
    known = layouts()
    assert set(known) == {"clips", "davis", "depth_images", "labelled_images", "tap_vid"}
    assert all(summary and "\n" not in summary for summary in known.values())


def test_the_layout_is_found_out(tmp_path):
    write_dense_clip(DenseClip("a", np.zeros((1, 2, 2, 3), np.uint8)), tmp_path)
    source = open_dense(tmp_path)
    assert source.keys == ("a",) and len(source) == 1
    assert [clip.key for clip in source] == ["a"]


def test_a_layout_that_is_named_tells_why_it_does_not_fit(tmp_path):
    with pytest.raises(SourceError, match="no folders JPEGImages and Annotations"):
        open_dense(tmp_path, layout="davis")
    with pytest.raises(ValueError, match=r"layout must be one of clips, .*, got 'voc'"):
        open_dense(tmp_path, layout="voc")


def test_what_is_none_of_them_is_said(tmp_path):
    with pytest.raises(SourceError, match="in a layout that is known: clips, davis"):
        open_dense(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_dense(tmp_path / "nothing")


def test_pictures_of_one_clip_have_one_size():
    one_size("a", {(2, 3)})
    with pytest.raises(SourceError, match="a: its pictures differ in size"):
        one_size("a", {(2, 3), (3, 3)})
