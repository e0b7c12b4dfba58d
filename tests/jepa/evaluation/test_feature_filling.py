"""A real process is killed while it fills a cache of real videos; another one goes on."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.synthetic import write_moving_shapes
from jepa.evaluation.encoders import load_probe_encoder
from jepa.evaluation.feature_filling import (
    FEATURES,
    META,
    PROGRESS,
    CacheFilling,
    locked,
    write_whole,
)
from jepa.evaluation.feature_store import FeatureStore
from jepa.evaluation.labelled_clips import read_labelled_clips

CLIPS = {"clip_length_frames": 4, "image_size": 32, "num_views": 2}
OPTIONS = {"batch_size": 4, "max_skipped_fraction": 0.2}

# Stops in the middle of its third batch, and waits to be killed.
PROGRAM = f"""
import sys
from jepa.evaluation.encoders import load_probe_encoder
from jepa.evaluation.feature_store import FeatureStore
from jepa.evaluation.labelled_clips import read_labelled_clips

data = read_labelled_clips(sys.argv[1], **{CLIPS})
encoder = load_probe_encoder("pixels", clip_length_frames=4, image_size=32)
encode, num_batches = encoder.encode, 0

def encode_two_batches(video):
    global num_batches
    num_batches += len(video) > 1  # a black clip was tried before
    if num_batches == 3:
        print("stopped", flush=True)
        sys.stdin.read()
    return encode(video)

encoder.encode = encode_two_batches
FeatureStore.build(sys.argv[2], encoder, data, **{OPTIONS})
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos of four classes, and a damaged one."""
    folder = tmp_path_factory.mktemp("videos")
    write_moving_shapes(folder, num_videos=8, num_frames=8, size=40)
    (folder / "down" / "damaged.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def data(videos):
    return read_labelled_clips(videos, **CLIPS)


class CountingEncoder:
    """Pixels, and how many rows were encoded."""

    def __init__(self):
        self.encoder = load_probe_encoder("pixels", clip_length_frames=4, image_size=32)
        self.feature_shape = self.encoder.feature_shape  # a black clip, not counted
        self.name, self.fingerprint, self.num_rows = "pixels", self.encoder.fingerprint, 0

    def encode(self, video):
        self.num_rows += len(video)
        return self.encoder.encode(video)


def bytes_of(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_a_killed_process_goes_on_and_ends_with_the_same_bytes(videos, data, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(videos), str(tmp_path / "killed")]
    killed = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "stopped\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (place,) = (tmp_path / "killed").iterdir()
    progress = json.loads((place / PROGRESS).read_text())
    # two samples a batch: down/00002 and 00006, then the damaged one and left/00001
    assert (progress["num_samples"], progress["num_rows"]) == (4, 6)
    assert [key for key, _ in progress["skipped"]] == ["down/damaged.mp4"]
    with pytest.raises(FileNotFoundError, match="was begun and is not complete"):
        FeatureStore.open(place)

    going_on, straight = CountingEncoder(), CountingEncoder()
    said = []
    again = FeatureStore.build(tmp_path / "killed", going_on, data, say=said.append, **OPTIONS)
    once = FeatureStore.build(tmp_path / "straight", straight, data, **OPTIONS)
    assert again.folder == place and not again.was_cached
    assert bytes_of(again.folder) == bytes_of(once.folder)
    assert straight.num_rows == 16  # 8 samples x 2 views
    assert going_on.num_rows == 16 - 6  # no row of a finished batch twice
    assert said[0] == "going on after 4 of 9 samples"


def test_rows_of_a_damaged_video_are_cut_off_and_the_others_are_in_their_place(data, tmp_path):
    encoder = CountingEncoder()
    store = FeatureStore.build(tmp_path, encoder, data, **OPTIONS)
    assert [skip.key for skip in store.skipped] == ["down/damaged.mp4"]
    found = store.as_set()
    assert found.num_samples == 8 and len(found.features) == 16
    assert (store.folder / FEATURES).stat().st_size < 17 * 256 * 48 * 2 + 256
    for number, key in enumerate(found.keys):
        item = data[data.keys.index(key)]
        rows = found.table[number, :, 0]  # of both views
        expected = encoder.encoder.encode(item.video).numpy()
        assert np.array_equal(found.features[rows], expected.astype(np.float16))
        assert found.classes[found.labels[number]] == key.partition("/")[0]


def test_too_many_damaged_videos_stop_it_also_when_it_is_tried_again(data, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"1 of 9 .* allowed 5%; the first, down/damaged\.mp4"):
            FeatureStore.build(tmp_path, CountingEncoder(), data, batch_size=4)


def test_a_set_of_which_nothing_can_be_read_is_refused(data, tmp_path):
    only = data.take([data.keys.index("down/damaged.mp4")])
    with pytest.raises(ValueError, match="not one sample can be read; down/damaged"):
        FeatureStore.build(tmp_path, CountingEncoder(), only, max_skipped_fraction=1.0)


def test_decoding_in_other_processes_gives_the_same_bytes(data, tmp_path):
    here = FeatureStore.build(tmp_path / "here", CountingEncoder(), data, **OPTIONS)
    there = FeatureStore.build(
        tmp_path / "there", CountingEncoder(), data, num_workers=1, **OPTIONS
    )
    assert bytes_of(here.folder) == bytes_of(there.folder)


def test_features_that_cannot_be_stored_are_refused(data, tmp_path):
    encoder = CountingEncoder()
    encode = encoder.encode
    encoder.encode = lambda video: encode(video) * float("nan")
    with pytest.raises(ValueError, match="features that are not finite"):
        FeatureStore.build(tmp_path, encoder, data, **OPTIONS)
    encoder.encode = lambda video: encode(video) * 1e6
    with pytest.raises(ValueError, match="too large for float16; store float32"):
        FeatureStore.build(tmp_path, encoder, data, **OPTIONS)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_encoded(data, tmp_path):
    encoder = CountingEncoder()
    encoder.feature_shape = (1000, 10**6, 10**4)
    with pytest.raises(OSError, match="GB left: take fewer clips"):
        CacheFilling(tmp_path, encoder, data, 4, np.dtype("f4")).fill(0, 1.0, print)
    assert encoder.num_rows == 0 and not (tmp_path / FEATURES).exists()


def test_a_cache_that_another_process_fills_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(BlockingIOError, match="another process is filling"):
        with locked(tmp_path):
            pass
    with locked(tmp_path):  # free again
        pass


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / META
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
