"""A tiny TAP-Vid, in the two layouts in which it is published."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from data_pipelines.dense_readers.base import open_dense
from data_pipelines.dense_readers.tap_vid import open_source
from data_pipelines.importers.base import SourceError


def video(**changes):
    points = np.array([[[0.25, 0.5], [0.5, 0.5]], [[0.1, 0.1], [1.5, 0.1]], [[0.1, 0.1]] * 2])
    return {
        "video": np.arange(2 * 4 * 8 * 3, dtype=np.uint8).reshape(2, 4, 8, 3),
        "points": points,
        "occluded": np.array([[False, True], [False, False], [True, True]]),
    } | changes


def written(tmp_path, content, name="tapvid_davis.pkl"):
    (tmp_path / name).write_bytes(pickle.dumps(content))
    return tmp_path / name


def test_points_come_in_pixels_and_are_hidden_where_told_or_outside(tmp_path):
    source = open_dense(written(tmp_path, {"goat": video(), "cows": video()}))
    assert source.keys == ("goat", "cows")
    clip = source.clip(0)
    np.testing.assert_array_equal(clip.frames, video()["video"])
    np.testing.assert_allclose(clip.tracks[0], [[2, 2], [4, 2]])
    assert clip.is_visible.tolist() == [[True, False], [True, False]]  # the third is never seen


def test_a_list_of_videos_with_compressed_frames_is_read(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 8, 3), 90, np.uint8)).save(buffer, "JPEG")
    frames = np.array([buffer.getvalue()] * 2, dtype=object)
    source = open_dense(written(tmp_path, [video(video=frames)], "kinetics.pkl"))
    assert source.keys == ("kinetics-00000",)
    assert source.clip(0).frames.shape == (2, 4, 8, 3)
    assert abs(source.clip(0).frames.mean() - 90) < 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must hold a dictionary or a list of videos"),
        ({"goat": {"video": 1}}, "goat must be a dictionary with video, points, occluded"),
    ],
)
def test_another_content_is_refused(tmp_path, content, message):
    with pytest.raises(SourceError, match=message):
        open_source(written(tmp_path, content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((3, 2))}, r"goat: points must be \(points, time, 2\)"),
        ({"video": [1, 2]}, "goat: its video is neither an array nor compressed pictures"),
        ({"video": np.zeros((3, 4, 8, 3), np.uint8)}, r"goat: tracks must be \(2, 3, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, message):
    with pytest.raises(SourceError, match=message):
        open_source(written(tmp_path, {"goat": video(**changes)})).clip(0)


class Poison:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_poisoned_file_does_nothing(tmp_path):
    path = written(tmp_path, {"goat": video(video=Poison(str(tmp_path / "poisoned")))})
    with pytest.raises(SourceError, match=r"it names posix\.mkdir, which no array needs"):
        open_source(path)
    assert not (tmp_path / "poisoned").exists()
