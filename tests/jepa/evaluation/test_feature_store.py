import json

import numpy as np
import pytest

from data_pipelines.synthetic import write_moving_shapes
from jepa.evaluation.encoders import load_probe_encoder
from jepa.evaluation.feature_filling import META
from jepa.evaluation.feature_store import FeatureStore, default_cache_folder
from jepa.evaluation.labelled_clips import read_labelled_clips, split_labelled_clips


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_moving_shapes(folder, num_videos=4, num_frames=8, size=40)
    return read_labelled_clips(folder, clip_length_frames=2, image_size=32, num_clips=2)


@pytest.fixture(scope="module")
def encoder():
    return load_probe_encoder("pixels", clip_length_frames=2, image_size=32)


def test_a_complete_cache_is_read_and_nothing_is_encoded(data, encoder, tmp_path):
    first = FeatureStore.build(tmp_path, encoder, data)
    blind = load_probe_encoder("pixels", clip_length_frames=2, image_size=32)
    blind.encode = None  # would fail
    second = FeatureStore.build(tmp_path, blind, data)
    assert second.was_cached and not first.was_cached
    assert second.folder == first.folder
    assert np.array_equal(first.features, second.features)


def test_features_stay_on_the_disk_until_they_are_read(data, encoder, tmp_path):
    found = FeatureStore.build(tmp_path, encoder, data).as_set()
    assert isinstance(found.features, np.memmap)
    assert found.features.mode == "r"
    assert found.features.shape == (8, 1, 128, 48)
    batch = next(found.batches(3))
    assert batch.features.shape == (3, 1, 2, 1, 128, 48) and not isinstance(
        batch.features, np.memmap
    )


def test_whatever_changes_the_numbers_is_another_cache(data, encoder, tmp_path):
    FeatureStore.build(tmp_path, encoder, data)
    FeatureStore.build(tmp_path, encoder, data, dtype="float32")
    FeatureStore.build(tmp_path, encoder, data.take([0, 1]))
    FeatureStore.build(tmp_path, encoder, data.with_random_views(2))
    assert len(list(tmp_path.iterdir())) == 4
    assert not FeatureStore.build(tmp_path, encoder, data.take([1, 0])).was_cached
    assert FeatureStore.build(tmp_path, encoder, data, batch_size=3).was_cached


def test_meta_says_what_the_numbers_are(data, encoder, tmp_path):
    store = FeatureStore.build(tmp_path, encoder, data, dtype="float32")
    meta = json.loads((store.folder / META).read_text())
    assert meta["encoder"] == {"name": "pixels", "fingerprint": encoder.fingerprint}
    assert meta["shape"] == [8, 1, 128, 48] and meta["dtype"] == "float32"
    assert meta["classes"] == ["down", "left", "right", "up"] and meta["skipped"] == []


def test_a_part_of_a_split_is_its_own_cache_with_the_classes_of_the_whole(data, encoder, tmp_path):
    parts = split_labelled_clips(data, {"train": 0.5, "test": 0.5})
    found = {
        name: FeatureStore.build(tmp_path, encoder, part).as_set() for name, part in parts.items()
    }
    assert found["train"].classes == found["test"].classes
    assert not set(found["train"].keys) & set(found["test"].keys)


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "jepa" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "jepa" / "features"


def test_a_folder_that_is_no_cache_is_refused(data, encoder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no feature cache"):
        FeatureStore.open(tmp_path)
    (tmp_path / META).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        FeatureStore.open(tmp_path)
    (tmp_path / META).write_text("{}")
    with pytest.raises(ValueError, match="no feature cache of format jepa-features-1"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_skipped_fraction": 2.0}, r"max_skipped_fraction in \[0, 1\]"),
        ({"dtype": "int8"}, "float16 or float32, got 'int8'"),
    ],
)
def test_settings_out_of_range_are_refused(data, encoder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        FeatureStore.build(tmp_path, encoder, data, **options)
    assert list(tmp_path.iterdir()) == []
