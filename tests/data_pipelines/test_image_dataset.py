import pytest
import torch

from data_pipelines.datamodules import ClipDataModule, ImageDataModule
from data_pipelines.image_dataset import ImageDataset
from data_pipelines.plan import Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import RandomResizedClipCrop, ResizeWholeFrame


def test_an_image_is_a_clip_of_one_frame(image_shards):
    dataset = ImageDataset(ShardIndex.load(image_shards), transform=ResizeWholeFrame(8))
    sample = dataset[Slot(3, seed=0)]
    assert sample.key == "picture3" and sample.video.shape == (1, 3, 1, 8, 8)
    assert sample.video[0, 0].unique().tolist() == [60] and not sample.video[0, 1:].any()


def test_a_slot_decides_the_crop(image_shards):
    dataset = ImageDataset(ShardIndex.load(image_shards), transform=RandomResizedClipCrop(8))
    assert torch.equal(dataset[Slot(2, seed=4)].video, dataset[Slot(2, seed=4)].video)


def test_images_are_red_and_named_and_a_damaged_one_is_replaced(image_shards):
    data = ImageDataModule(
        str(image_shards), image_size=16, batch_size=5, max_skipped_fraction=1.0, val_shards=None
    )
    batches = list(data.train_dataloader())
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 10 and "picture6" not in keys
    assert set(data.skips.keys) == {"picture6"}
    assert data.skips.reason_of_key["picture6"].startswith("not an image, or none of PNG")
    for batch in batches:
        for key, video in zip(batch.keys, batch.video, strict=True):
            assert video.shape == (3, 1, 16, 16)
            assert video[0].unique().tolist() == [20 * int(key[-1])] and not video[1:].any()


def test_videos_are_no_images_and_images_no_videos(shard_folder, image_shards):
    with pytest.raises(ShardError, match="is no image; videos go into a ClipDataModule"):
        ImageDataModule(str(shard_folder), image_size=16).setup()
    with pytest.raises(ShardError, match="is no video; pictures go into an ImageDataModule"):
        ClipDataModule(str(image_shards), 4, image_size=16).setup()


def test_a_damaged_image_leaves_its_place_in_validation_empty(image_shards):
    data = ImageDataModule(
        str(image_shards), image_size=16, val_shards=str(image_shards), batch_size=4
    )
    batches = list(data.val_dataloader())
    assert [batch.is_valid.tolist() for batch in batches] == [
        [True] * 4,
        [True, True, False, True],
        [True, True, False, False],
    ]
