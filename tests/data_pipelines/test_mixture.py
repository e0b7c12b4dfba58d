from collections import Counter
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.datamodules import ClipDataModule, ImageDataModule, TrajectoryDataModule
from data_pipelines.mixture import MixtureDataModule
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shards import pack_videos


@pytest.fixture(scope="module")
def other_shards(video_folder, tmp_path_factory):
    """Shards of the six videos of one class."""
    out = tmp_path_factory.mktemp("other")
    pack_videos(video_folder / "odd", out)
    return out


def clips(shards, **settings):
    return ClipDataModule(str(shards), 4, image_size=16, **settings)


def mixture(shard_folder, other_shards, **settings):
    sources = [clips(shard_folder, seed=1), clips(other_shards, frames_per_second=5.0, seed=2)]
    settings = {"weights": [1, 3], "batch_size": 8, "steps_per_epoch": 12, **settings}
    return MixtureDataModule(sources, **settings)


def source_of(key):
    return key.partition(":")[0]


def test_sources_share_batches_in_the_ratio_of_their_weights(shard_folder, other_shards):
    data = mixture(shard_folder, other_shards)
    for batch in data.train_dataloader():
        counts = Counter(source_of(key) for key in batch.keys)
        assert counts == {shard_folder.name: 2, other_shards.name: 6}
        assert batch.video.shape == (8, 3, 4, 16, 16)


def test_every_source_keeps_its_own_sampling(shard_folder, other_shards):
    rates = {shard_folder.name: 10.0, other_shards.name: 5.0}
    for batch in mixture(shard_folder, other_shards).train_dataloader():
        for key, times in zip(batch.keys, batch.timestamps_seconds, strict=True):
            steps = torch.full((3,), 1 / rates[source_of(key)])
            torch.testing.assert_close(times.diff(), steps, rtol=0, atol=1e-4)


def test_without_weights_sources_count_by_their_size(shard_folder, other_shards):
    data = mixture(shard_folder, other_shards, weights=None, batch_size=6)
    assert data.describe() == (
        f"mixture of {shard_folder.name} 2 of 3 (12 samples), {other_shards.name} 1 of 3 "
        "(6 samples); 12 steps per epoch, global batch 6 (6 x 1 ranks)"
    )


def test_validation_goes_through_all_sources_once(shard_folder, other_shards):
    sources = [clips(shard_folder, val_shards=str(shard_folder)), clips(other_shards)]
    data = MixtureDataModule(sources, batch_size=5)
    keys = [key for batch in data.val_dataloader() for key in batch.only_valid().keys]
    names = [sample.key for sample in ShardIndex.load(shard_folder).samples]
    assert keys == [f"{shard_folder.name}:{name}" for name in names]
    assert mixture(shard_folder, other_shards).val_dataloader() == []


def test_images_come_beside_videos_in_batches_of_their_own(
    shard_folder, other_shards, image_shards
):
    data = mixture(
        shard_folder,
        other_shards,
        images=ImageDataModule(str(image_shards), image_size=16),
        image_fraction=0.25,
        image_batch_size=3,
        max_skipped_fraction=1.0,
    )
    shapes = [tuple(batch.video.shape) for batch in data.train_dataloader()]
    video, image = (8, 3, 4, 16, 16), (3, 3, 1, 16, 16)
    assert shapes == [video, video, video, image] * 3
    assert "0.25 of the steps (10 images)" in data.describe()


class Recorder(L.LightningModule):
    """Learns nothing; keeps what it saw."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.fail_at = [], fail_at

    def training_step(self, batch, batch_index):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("killed")
        self.seen.append((batch.keys, int(batch.video.long().sum())))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, folder, *, fail_at=None, ckpt_path=None):
    module = Recorder(fail_at)
    L.Trainer(
        max_steps=20,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(dirpath=folder, save_last=True, every_n_train_steps=1)],
    ).fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_and_resumed_mixture_sees_the_same_and_goes_on_counting(
    shard_folder, other_shards, image_shards, tmp_path, num_workers
):
    def data():
        return mixture(
            shard_folder,
            other_shards,
            images=ImageDataModule(str(image_shards), image_size=16),
            image_fraction=0.4,
            num_workers=num_workers,
            max_skipped_fraction=1.0,
        )

    whole_data = data()
    whole = fit(whole_data, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        fit(data(), tmp_path / "cut", fail_at=13)
    resumed = data()
    rest = fit(resumed, tmp_path / "cut", ckpt_path=str(tmp_path / "cut" / "last.ckpt"))
    assert rest == whole[13:]
    assert resumed.skips.num_skipped > 0
    if num_workers == 0:  # with workers the batch at which it was killed is counted twice
        assert resumed.skips.state_dict() == whole_data.skips.state_dict()


def test_sources_that_do_not_go_together_are_refused(shard_folder, other_shards):
    with pytest.raises(ValueError, match=r"sources with \[1, 2\] clips per sample"):
        MixtureDataModule([clips(shard_folder), clips(other_shards, clips_per_video=2)])
    with pytest.raises(ValueError, match="got no source"):
        MixtureDataModule([])
    with pytest.raises(ValueError, match="batch_size=3 must be a multiple of the 2 clips"):
        MixtureDataModule([clips(shard_folder, clips_per_video=2)], batch_size=3)
    with pytest.raises(ValueError, match="set its augment_on to 'worker'"):
        MixtureDataModule([clips(shard_folder, augment_on="device")])
    with pytest.raises(ValueError, match=r"images=none and image_fraction=0\.5: give both"):
        MixtureDataModule([clips(shard_folder)], image_fraction=0.5)


def test_robots_of_one_specification_mix(trajectory_folder, specification):
    windows = TrajectoryDataModule(str(trajectory_folder), 5, image_size=16, batch_size=2)
    data = MixtureDataModule([windows, windows], [1, 1], batch_size=4, steps_per_epoch=2)
    assert data.specification == specification
    batch = next(iter(data.train_dataloader()))
    assert batch.frames.shape == (4, 3, 5, 16, 16)
    name = Path(trajectory_folder).name
    assert {source_of(key) for key in batch.keys} == {f"0-{name}", f"1-{name}"}
