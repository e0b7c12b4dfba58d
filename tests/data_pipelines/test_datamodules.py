import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from data_pipelines.skips import NoUsableSampleError


class Recorder(L.LightningModule):
    """Learns nothing; keeps what it saw."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.validated, self.fail_at = [], [], fail_at

    def training_step(self, batch, batch_index):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("killed")
        frames = batch.video if hasattr(batch, "video") else batch.frames
        self.seen.append((batch.keys, int(frames.long().sum())))
        return self.weight.sum()

    def validation_step(self, batch, batch_index):
        self.validated.append((batch.keys, int(batch.video.long().sum())))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(datamodule, folder, *, max_steps, ckpt_path=None, fail_at=None, **settings):
    module = Recorder(fail_at)
    trainer = L.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(dirpath=folder, save_last=True, every_n_train_steps=1)],
        **settings,
    )
    trainer.fit(module, datamodule, ckpt_path=ckpt_path, weights_only=True)
    return module


def clips(shard_folder, **settings):
    settings = {"image_size": 16, "batch_size": 4, "clips_per_video": 2, **settings}
    return ClipDataModule(str(shard_folder), 6, **settings)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kill_at", [2, 6, 8])
def test_a_killed_and_resumed_run_sees_the_same_samples(
    shard_folder, tmp_path, num_workers, kill_at
):
    whole = fit(clips(shard_folder), tmp_path / "whole", max_steps=14).seen  # 6 steps per epoch
    part = clips(shard_folder, num_workers=num_workers)
    with pytest.raises(RuntimeError, match="killed"):
        fit(part, tmp_path / "cut", max_steps=14, fail_at=kill_at)
    rest = fit(
        clips(shard_folder, num_workers=num_workers),
        tmp_path / "cut",
        max_steps=14,
        ckpt_path=str(tmp_path / "cut" / "last.ckpt"),
    ).seen
    assert rest == whole[kill_at:]


def test_a_resume_in_the_middle_of_accumulation_goes_on_from_the_batch(shard_folder, tmp_path):
    settings = {"accumulate_grad_batches": 2, "val_check_interval": 3}
    data = {"val_shards": str(shard_folder), "val_batches": 1}
    whole = fit(clips(shard_folder, **data), tmp_path / "a", max_steps=6, **settings)
    assert len(whole.seen) == 12
    fit(clips(shard_folder, **data), tmp_path / "b", max_steps=2, **settings)
    path = str(tmp_path / "b" / "last.ckpt")
    rest = fit(clips(shard_folder, **data), tmp_path / "b", max_steps=6, ckpt_path=path, **settings)
    assert rest.seen == whole.seen[4:]


def test_one_epoch_visits_every_video_once_and_the_next_in_another_order(shard_folder, tmp_path):
    seen = fit(clips(shard_folder), tmp_path, max_steps=12).seen
    orders = [[key for keys, _ in seen[start : start + 6] for key in keys[::2]] for start in (0, 6)]
    assert len(set(orders[0])) == len(set(orders[1])) == 12
    assert orders[0] != orders[1]


def test_validation_sees_the_same_middle_clips_every_time(shard_folder, tmp_path):
    data = clips(shard_folder, val_shards=str(shard_folder), val_batches=2, steps_per_epoch=2)
    module = fit(data, tmp_path, max_steps=4, num_sanity_val_steps=0)
    assert len(module.validated) == 4
    assert module.validated[:2] == module.validated[2:]


def test_the_datamodule_works_without_a_trainer(shard_folder):
    data = clips(shard_folder, num_workers=0)
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    assert data.describe() == (
        "3 shards, 12 samples, 0.01 hours; 24 clips per pass, 6 steps per epoch, "
        "global batch 4 (4 x 1 ranks)"
    )
    assert (data.skips.num_seen, data.skips.num_skipped) == (12, 0)
    assert data.val_dataloader() == []


def test_more_steps_than_a_pass_go_on_with_the_next_pass(shard_folder):
    loader = clips(shard_folder, steps_per_epoch=9).train_dataloader()
    keys = [key for batch in loader for key in batch.keys[::2]]
    assert len(keys) == 18 and sorted(keys[:12]) == sorted(set(keys[:12]))


def test_settings_that_cannot_work_are_refused_in_words(shard_folder):
    with pytest.raises(ValueError, match="12 samples x 2 clips < global batch 32"):
        clips(shard_folder, batch_size=32).train_dataloader()
    with pytest.raises(ValueError, match="batch_size=5 must be a multiple of the 2 clips"):
        clips(shard_folder, batch_size=5)
    with pytest.raises(NoUsableSampleError, match="12 of 12 samples skipped; first: key"):
        ClipDataModule(str(shard_folder), 64, frames_per_second=10.0).setup()


def test_a_second_sampler_is_refused(shard_folder):
    class Connector:
        use_distributed_sampler = True

    class TwoRanks:
        world_size, global_rank, _accelerator_connector = 2, 1, Connector()

    data = clips(shard_folder)
    data.trainer = TwoRanks()
    with pytest.raises(ValueError, match="use_distributed_sampler=False"):
        data.train_dataloader()


def test_trajectories_train_and_tell_what_their_numbers_mean(
    trajectory_folder, specification, tmp_path
):
    data = TrajectoryDataModule(
        str(trajectory_folder), 5, image_size=16, batch_size=6, windows_per_trajectory=3
    )
    module = fit(data, tmp_path, max_steps=6)
    assert len(module.seen) == 6
    assert data.specification == specification
    assert data.statistics.action_mean == pytest.approx([9.5])


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5])
def test_prediction_sees_every_sample_once_whatever_the_batch_size(shard_folder, batch_size):
    data = ClipDataModule(
        str(shard_folder), clip_length_frames=4, image_size=32, batch_size=batch_size
    )
    keys = [key for batch in data.predict_dataloader() for key in batch.keys]
    assert sorted(keys) == sorted(sample.key for sample in data.index.samples)
