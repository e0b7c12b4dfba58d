import numpy as np
import pytest
import torch

from data_pipelines.batch import ClipBatch
from data_pipelines.clip_dataset import ClipDataset, refuse_set_without_fitting_video
from data_pipelines.plan import Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import NoUsableSampleError
from data_pipelines.streams import collate
from data_pipelines.transforms import RandomResizedClipCrop, ResizeWholeFrame

PIXELS = (1, 3, 4)  # of (batch, 3, time, height, width)


@pytest.fixture(scope="module")
def index(shard_folder):
    return ShardIndex.load(shard_folder)


def clips(index, **settings):
    settings = {"clip_length_frames": 6, "transform": ResizeWholeFrame(32), **settings}
    return ClipDataset(index, **settings)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_a_clip_shows_the_frames_its_timestamps_say(index, index_of, decoder):
    dataset = clips(index, decoder=decoder)
    batch = collate([dataset[Slot(n, seed=n)] for n in range(12)])
    assert isinstance(batch, ClipBatch)
    assert batch.video.shape == (12, 3, 6, 32, 32) and batch.video.dtype == torch.uint8
    seen = index_of(batch.video, PIXELS)  # (batch, time)
    np.testing.assert_allclose(batch.timestamps_seconds.numpy() * 10, seen, atol=1e-3)
    assert (np.diff(seen) == 1).all()
    assert batch.keys == tuple(sample.key for sample in index.samples) and batch.skipped == ()


def test_a_rate_below_the_videos_takes_frames_at_exact_times(index, index_of):
    sample = clips(index, frames_per_second=2.5, clip_length_frames=4)[Slot(3, seed=1)]
    seen = index_of(sample.video, PIXELS)
    assert np.diff(seen).tolist() == [[4, 4, 4]]


def test_clips_of_one_video_are_neighbours_and_differ(index, index_of):
    dataset = clips(index, clips_per_video=4)
    batch = collate([dataset[Slot(11, seed=5)], dataset[Slot(2, seed=6)]])
    assert batch.keys == (index.samples[11].key,) * 4 + (index.samples[2].key,) * 4
    seen = index_of(batch.video, PIXELS)
    np.testing.assert_allclose(batch.timestamps_seconds.numpy() * 10, seen, atol=1e-3)
    assert len({row[0] for row in seen[:4].tolist()}) > 1


def test_a_slot_decides_everything(index):
    dataset = clips(index, transform=RandomResizedClipCrop(24), clips_per_video=2)
    first, again = dataset[Slot(4, seed=9)], dataset[Slot(4, seed=9)]
    assert torch.equal(first.video, again.video)
    assert not torch.equal(first.timestamps_seconds, dataset[Slot(4, seed=10)].timestamps_seconds)


def test_the_middle_clip_needs_no_luck(index, index_of):
    dataset = clips(index, place="middle")
    seen = [index_of(dataset[Slot(0, seed=seed)].video, PIXELS).tolist() for seed in (1, 2)]
    assert seen[0] == seen[1] == [[7, 8, 9, 10, 11, 12]]


def test_a_clip_longer_than_every_video_is_refused_before_the_run(index):
    with pytest.raises(NoUsableSampleError, match=r"12 of 12 .* needs 32 frames .* video has 20"):
        refuse_set_without_fitting_video(index, 32)
    refuse_set_without_fitting_video(index, 31)
    refuse_set_without_fitting_video(index, 31, frames_per_second=10)


def test_short_videos_may_repeat_their_last_frame(index, index_of):
    sample = clips(index, clip_length_frames=24, short_video="repeat_last")[Slot(0, seed=0)]
    assert index_of(sample.video, PIXELS).tolist() == [[*range(20), 19, 19, 19, 19]]
