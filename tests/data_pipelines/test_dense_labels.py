"""Clips with dense labels: what is written is read, nothing is run."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines import dense_labels
from data_pipelines.dense_labels import IGNORED, DenseClip, read_dense_clip, write_dense_clip
from data_pipelines.importers.base import SourceError


def clip(**changes):
    """Two frames of 4 x 6 pixels: a ball (object 1) before the background, and two points."""
    object_ids = np.zeros((2, 4, 6), dtype=np.uint16)
    object_ids[0, 1, 2], object_ids[1, 1, 3], object_ids[1, 3, 5] = 1, 1, IGNORED
    depth = np.full((2, 4, 6), 3.0, dtype=np.float32)
    depth[1, 0, 0] = np.nan
    parts = {
        "key": "ball-0",
        "frames": np.arange(144, dtype=np.uint8).reshape(2, 4, 6, 3),
        "object_ids": object_ids,
        "object_classes": (0, 2),
        "class_names": ("background", "cube", "ball"),
        "depth": depth,
        "tracks": np.array([[[2.5, 1.5], [3.5, 1.5]], [[9, 9], [0, 4]]], dtype=np.float32),
        "is_visible": np.array([[True, True], [False, True]]),
        "frames_per_second": 10.0,
    }
    return DenseClip(**(parts | changes))


def test_a_clip_is_read_as_it_was_written(tmp_path):
    written = clip()
    read = read_dense_clip(write_dense_clip(written, tmp_path))
    for name in ("frames", "object_ids", "depth", "tracks", "is_visible"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    for name in ("key", "object_classes", "class_names", "depth_unit", "frames_per_second"):
        assert getattr(read, name) == getattr(written, name)
    assert [path.name for path in tmp_path.iterdir()] == ["ball-0.npz"]


def test_what_is_not_known_stays_unknown(tmp_path):
    frames = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    read = read_dense_clip(write_dense_clip(DenseClip("bare", frames), tmp_path))
    assert read.object_ids is read.classes is read.depth is read.tracks is read.is_visible is None
    with pytest.raises(ValueError, match="bare has no tracks"):
        _ = read.query_frames


def test_classes_are_those_of_the_objects_and_what_is_ignored_stays_so():
    classes = clip().classes
    assert classes[0, 1, 2] == 2 and classes[0, 0, 0] == 0
    assert classes[1, 3, 5] == IGNORED
    assert clip(object_classes=(), class_names=()).classes is None


def test_a_point_is_asked_for_where_it_is_seen_first():
    assert clip().query_frames.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "../up"}, "key must be letters"),
        ({"frames": np.zeros((2, 4, 6, 3))}, "frames must be .* uint8, got .* float64"),
        ({"frames": np.zeros((0, 4, 6, 3), np.uint8)}, "frames must not be empty"),
        ({"object_ids": np.zeros((2, 4, 5), np.uint16)}, r"object_ids must be \(2, 4, 6\) uint16"),
        ({"object_classes": (0,)}, "object_ids go to 1, but object_classes name 1 objects"),
        ({"object_classes": (0, 3)}, "object_classes must be from 0 to 2"),
        ({"depth": np.zeros((2, 4, 6), np.float32)}, "depth must be finite and above 0"),
        ({"depth_unit": "feet"}, "depth_unit must be metre or relative"),
        ({"tracks": None}, "tracks and is_visible must be given together"),
        ({"tracks": np.zeros((2, 3, 2), np.float32)}, r"tracks must be \(2, 2, 2\)"),
        ({"is_visible": np.ones((2, 2), bool)}, "tracks must be inside the picture"),
        ({"is_visible": np.array([[1, 1], [0, 0]], bool)}, "every track must be visible"),
        ({"frames_per_second": -1.0}, "frames_per_second must be at least 0"),
        ({"object_ids": None}, "object_classes need object_ids"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        clip(**changes)


def test_a_file_that_is_no_clip_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no clip"):
        read_dense_clip(tmp_path / "nothing.npz")
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    with pytest.raises(SourceError, match=r"text.npz: no clip with dense labels"):
        read_dense_clip(text)
    other = tmp_path / "other.npz"
    np.savez(other, weights=np.zeros(3))
    with pytest.raises(SourceError, match="no 'about' and 'frames', but weights"):
        read_dense_clip(other)


def test_a_file_cut_short_is_named(tmp_path):
    path = write_dense_clip(clip(), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="no clip with dense labels"):
        read_dense_clip(path)


class Poison:
    def __reduce__(self):
        return (open, ("poisoned", "w"))


def test_no_pickle_in_a_clip_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = write_dense_clip(clip(), tmp_path)
    with np.load(good) as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "bad.npz", **(arrays | {"depth": np.array([Poison()], dtype=object)}))
    with pytest.raises(SourceError, match="Object arrays cannot be loaded"):
        read_dense_clip(tmp_path / "bad.npz")
    assert not (tmp_path / "poisoned").exists()


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = write_dense_clip(clip(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    monkeypatch.setattr(dense_labels, "MAX_CLIP_BYTES", size - 1)
    with pytest.raises(SourceError, match="bytes, more than"):
        read_dense_clip(path)


def test_arrays_are_checked_when_they_are_read(tmp_path):
    path = write_dense_clip(clip(), tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"depth": arrays["depth"][:1]}))
    with pytest.raises(SourceError, match=r"depth must be \(2, 4, 6\) float32"):
        read_dense_clip(path)


def test_a_clip_cannot_be_changed_into_a_wrong_one():
    with pytest.raises(ValueError, match="key must be"):
        replace(clip(), key="")
