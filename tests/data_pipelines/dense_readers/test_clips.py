"""A folder of our own clips."""

import numpy as np
import pytest

from data_pipelines.dense_labels import DenseClip, write_dense_clip
from data_pipelines.dense_readers.clips import open_source
from data_pipelines.importers.base import SourceError


def test_clips_come_in_the_order_of_their_names(tmp_path):
    for number, key in enumerate(("b", "a")):
        frames = np.full((1, 2, 2, 3), number, dtype=np.uint8)
        write_dense_clip(DenseClip(key, frames), tmp_path)
    source = open_source(tmp_path)
    assert source.keys == ("a", "b")
    assert source.clip(0).frames.max() == 1


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no folder with \.npz clips"):
        open_source(tmp_path)
