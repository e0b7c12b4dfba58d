import os
import shutil

import numpy as np
import pytest

from data_pipelines.labelled_clips.reading import (
    read_labelled_clips,
    refuse_shared_recordings,
    split_labelled_clips,
)
from data_pipelines.shards import pack_videos
from data_pipelines.synthetic import write_moving_shapes

OPTIONS = {"clip_length_frames": 4, "image_size": 32}


def write_list(folder, video_folder, lines):
    path = folder / "videos.csv"
    path.write_text("\n".join(f"{video_folder / name} {label}" for name, label in lines))
    return path


def test_a_list_of_path_and_label_is_read_as_the_official_recipes_have_it(tmp_path, video_folder):
    lines = [("even/video00.mp4", 10), ("odd/video01.mp4", 2), ("even/video02.mp4", 10)]
    data = read_labelled_clips(write_list(tmp_path, video_folder, lines), **OPTIONS)
    assert data.classes == ("2", "10")  # by their value, not by their letters
    assert dict(zip(data.keys, data.labels.tolist(), strict=True)) == {
        "even/video00.mp4": 1,
        "even/video02.mp4": 1,
        "odd/video01.mp4": 0,
    }
    assert data[0].video.shape == (1, 3, 4, 32, 32)


def test_classes_of_the_training_split_decide_the_indices(tmp_path, video_folder):
    listed = write_list(tmp_path, video_folder, [("odd/video01.mp4", "odd")])
    data = read_labelled_clips(listed, classes=("even", "odd"), **OPTIONS)
    assert data.labels.tolist() == [1]
    with pytest.raises(ValueError, match="1 classes that are not among the 1 trained on: odd"):
        read_labelled_clips(listed, classes=("even",), **OPTIONS)


def test_a_sample_without_label_is_named(tmp_path, video_folder):
    shutil.copy(video_folder / "even" / "video00.mp4", tmp_path / "loose.mp4")
    with pytest.raises(ValueError, match=r"1 of 1 samples .* no label, the first loose\.mp4"):
        read_labelled_clips(tmp_path, **OPTIONS)


def test_labels_are_all_that_videos_have(video_folder):
    with pytest.raises(ValueError, match="labels only: target='label', got 'states'"):
        read_labelled_clips(video_folder, target="states", **OPTIONS)


def test_a_place_with_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_labelled_clips(tmp_path / "nowhere", **OPTIONS)
    with pytest.raises(ValueError, match="no"):
        read_labelled_clips(tmp_path, **OPTIONS)


def test_the_fingerprint_changes_with_bytes_settings_and_labels(tmp_path, video_folder):
    folder = tmp_path / "copy"
    shutil.copytree(video_folder, folder)
    before = read_labelled_clips(folder, **OPTIONS).fingerprint
    assert read_labelled_clips(folder, **OPTIONS).fingerprint == before
    assert read_labelled_clips(folder, **OPTIONS, num_views=3).fingerprint != before
    assert read_labelled_clips(folder, **OPTIONS, crop="square").fingerprint != before
    os.utime(folder / "even" / "video00.mp4", ns=(1, 1))
    assert read_labelled_clips(folder, **OPTIONS).fingerprint != before


def test_a_split_divides_recordings_and_keeps_the_classes_in_balance(video_folder):
    data = read_labelled_clips(video_folder, **OPTIONS)
    parts = split_labelled_clips(data, {"train": 0.5, "validation": 0.25, "test": 0.25}, seed=3)
    keys = [key for part in parts.values() for key in part.keys]
    assert sorted(keys) == sorted(data.keys)  # each once
    assert [len(part) for part in parts.values()] == [6, 3, 3]
    assert np.bincount(parts["train"].labels).tolist() == [3, 3]
    refuse_shared_recordings(parts)
    again = split_labelled_clips(data, {"train": 0.5, "validation": 0.25, "test": 0.25}, seed=3)
    assert all(parts[name].keys == again[name].keys for name in parts)


def test_a_group_is_never_divided(tmp_path, video_folder):
    path = tmp_path / "videos.csv"
    rows = [
        f"{video_folder / folder / f'video{n:02d}.mp4'},{folder},scene{n // 4}"
        for n, folder in ((n, "even" if n % 2 == 0 else "odd") for n in range(12))
    ]
    path.write_text("\n".join(["path,label,group", *rows]))
    data = read_labelled_clips(path, **OPTIONS)
    parts = split_labelled_clips(data, {"train": 0.4, "validation": 0.3, "test": 0.3})
    for part in parts.values():
        assert len(part) == 4 and len(set(part.recordings)) == 1
    refuse_shared_recordings(parts)


def test_the_same_bytes_under_two_names_stay_together(tmp_path, video_folder):
    folder = tmp_path / "videos"
    shutil.copytree(video_folder, folder)
    for number in range(0, 12, 2):
        original = folder / "even" / f"video{number:02d}.mp4"
        shutil.copy(original, original.with_name(f"copy{number:02d}.mp4"))
    pack_videos(folder, tmp_path / "shards")
    data = read_labelled_clips(str(tmp_path / "shards"), **OPTIONS)
    assert len(data) == 18 and len(set(data.recordings)) == 12
    for seed in range(5):
        parts = split_labelled_clips(data, seed=seed)
        refuse_shared_recordings(parts)


def test_given_splits_that_share_a_recording_are_named(video_folder):
    data = read_labelled_clips(video_folder, **OPTIONS)
    with pytest.raises(ValueError, match=r"'even/video02\.mp4' of .* is in both train and test"):
        refuse_shared_recordings({"train": data.take([0, 1]), "test": data.take([1, 2])})


def test_too_few_recordings_cannot_be_divided(video_folder):
    data = read_labelled_clips(video_folder, **OPTIONS).take([0, 1])
    with pytest.raises(ValueError, match="3 parts cannot be made of 2 unit"):
        split_labelled_clips(data)


def test_files_of_one_name_in_two_folders_are_two_recordings(tmp_path):
    for part, seed in (("train", 1), ("test", 2)):
        write_moving_shapes(tmp_path / part, num_videos=4, num_frames=8, size=32, seed=seed)
    parts = {part: read_labelled_clips(tmp_path / part, **OPTIONS) for part in ("train", "test")}
    refuse_shared_recordings(parts)
