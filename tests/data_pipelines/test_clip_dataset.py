import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from data_pipelines.augmentation import ClipAugmentation
from data_pipelines.batch import ClipBatch
from data_pipelines.clip_dataset import ClipDataset, refuse_set_without_fitting_video
from data_pipelines.plan import Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import NoUsableSampleError
from data_pipelines.streams import collate
from data_pipelines.transforms import (
    RandomResizedClipCrop,
    ResizeWholeFrame,
    SquareAlongLongSide,
)

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


def test_short_videos_may_repeat_their_last_frame_or_start_over(index, index_of):
    sample = clips(index, clip_length_frames=24, short_video="repeat_last")[Slot(0, seed=0)]
    assert index_of(sample.video, PIXELS).tolist() == [[*range(20), 19, 19, 19, 19]]
    sample = clips(index, clip_length_frames=24, short_video="loop")[Slot(0, seed=0)]
    assert index_of(sample.video, PIXELS).tolist() == [[*range(20), 0, 1, 2, 3]]


# Views, strides and old runs.


def test_views_come_moment_after_moment_and_crop_after_crop(index, index_of):
    crops = [SquareAlongLongSide(16, place, 3) for place in range(3)]
    dataset = clips(index, transform=crops, clips_per_video=2, place="uniform")
    batch = collate([dataset[Slot(0, seed=0)], dataset[Slot(4, seed=0)]])
    expected = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert dataset.clips_per_sample == 6 and list(batch.views) == expected * 2
    assert batch.keys == (index.samples[0].key,) * 6 + (index.samples[4].key,) * 6
    seen = index_of(batch.video, PIXELS)  # six frames in the middle of each half of 20, of 28
    assert seen[:, 0].tolist() == [2] * 3 + [12] * 3 + [4] * 3 + [18] * 3
    np.testing.assert_allclose(batch.timestamps_seconds.numpy() * 10, seen, atol=1e-3)


def test_padding_has_the_shape_of_a_sample(index):
    dataset = clips(index, transform=[ResizeWholeFrame(16)] * 3, clips_per_video=2)
    batch = collate([dataset[Slot(1, seed=0)], dataset[Slot(1, seed=0, is_padding=True)]])
    assert batch.is_valid.tolist() == [True] * 6 + [False] * 6
    valid = batch.only_valid()
    assert valid.views == dataset.views and valid.seeds == batch.seeds[:6]
    assert len(valid.video) == len(valid.keys) == 6


def test_a_stride_counts_frames(index, index_of):
    sample = clips(index, frame_stride=3)[Slot(3, seed=1)]
    assert np.diff(index_of(sample.video, PIXELS)).tolist() == [[3] * 5]


def test_an_old_run_sees_the_frames_that_the_official_loader_took(index, index_of):
    # 26 frames, a window of 18: 0, 3.6, 7.2, 10.8, 14.4, 18 -> 17 after a start below 8.
    dataset = clips(index, frame_stride=3, place="official", short_video="official")
    seen = index_of(dataset[Slot(3, seed=1)].video, PIXELS)[0]
    assert (seen - seen[0]).tolist() == [0, 3, 7, 10, 14, 17] and seen[0] < 8
    overlapping = clips(
        index, frame_stride=3, clips_per_video=2, place="official_overlapping", short_video="skip"
    )
    seen = index_of(overlapping[Slot(3, seed=1)].video, PIXELS)  # 17 // 3 = 5 of 0 .. 17; 8 on
    assert seen.tolist() == [[0, 4, 8, 12, 16, 16], [8, 12, 16, 20, 24, 24]]


# Augmentation.


def test_augmenting_in_the_worker_is_augmenting_the_batch_by_its_seeds(index):
    augmentation = ClipAugmentation([v2.ColorJitter(0.5, 0.5), v2.RandomAffine(30)])
    settings = {"transform": RandomResizedClipCrop(24), "clips_per_video": 2}
    plain, augmented = clips(index, **settings), clips(index, augmentation=augmentation, **settings)
    slots = [Slot(n, seed=100 + n) for n in range(4)]
    before, after = (collate([one[slot] for slot in slots]) for one in (plain, augmented))
    assert before.seeds == after.seeds and len(set(before.seeds)) == 8
    assert torch.equal(before.timestamps_seconds, after.timestamps_seconds)
    assert torch.equal(augmentation.to_batch(before.video, before.seeds), after.video)
    assert not torch.equal(before.video, after.video)
    assert torch.equal(after.video[:2], augmented[slots[0]].video)  # the slot decides, all alone


def test_all_frames_of_a_clip_are_augmented_alike_and_clips_differ(index):
    augmentation = ClipAugmentation([v2.ColorJitter(brightness=0.8)])
    dataset = clips(
        index, clips_per_video=4, place="middle", augmentation=augmentation, decoder="pyav"
    )
    plain = clips(index, clips_per_video=4, place="middle", decoder="pyav")
    slot = Slot(0, seed=2)
    ratio = dataset[slot].video.double().mean((1, 3, 4)) / plain[slot].video.double().mean(
        (1, 3, 4)
    )  # (clips, time), the drawn brightness
    assert ((ratio - ratio[:, :1]).abs() < 0.03).all()
    assert ratio[:, 0].unique().numel() == 4
