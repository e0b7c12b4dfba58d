from collections import Counter
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.datamodules import ClipDataModule, ImageDataModule, TrajectoryDataModule
from data_pipelines.mixture import MixtureDataModule
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shards import pack_trajectories, pack_videos


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


def test_without_weights_a_tiny_source_comes_all_the_same_and_a_remark_says_so(
    shard_folder, other_shards, caplog, monkeypatch
):
    monkeypatch.setattr("data_pipelines.mixture_plan.MAX_PERIOD", 2)  # sizes 12 and 6: tiny is < 9
    data = mixture(shard_folder, other_shards, weights=None, batch_size=6)
    data.setup()
    assert data._plan.slots_per_period == (1, 1)
    assert f"{other_shards.name} has 6 of 18 samples: it comes once in 2 samples" in caplog.text
    with_weights = mixture(shard_folder, other_shards, weights=[1, 1], batch_size=6)
    caplog.clear()
    with_weights.setup()
    assert "comes once in" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image_size": 32}, "image_size=16 in {0}, 32 in {1}"),
        ({"clip_length_frames": 5}, "clip_length_frames=4 in {0}, 5 in {1}"),
    ],
)
def test_sources_whose_clips_have_different_shapes_are_refused_before_anything_is_read(
    shard_folder, other_shards, trajectory_folder, settings, said
):
    def source(kind, shards, **changed):
        return kind(str(shards), **{"clip_length_frames": 4, "image_size": 16, **changed})

    for kind in (ClipDataModule, TrajectoryDataModule):
        sources = [source(kind, shard_folder), source(kind, other_shards, **settings)]
        with pytest.raises(ValueError, match=said.format(shard_folder.name, other_shards.name)):
            MixtureDataModule(sources)


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
    names = shard_folder.name, other_shards.name
    with pytest.raises(ValueError, match="clips_per_sample=1 in {}, 2 in {}".format(*names)):
        MixtureDataModule([clips(shard_folder), clips(other_shards, clips_per_video=2)])
    views = [
        clips(folder, val_shards=str(folder), temporal_views=number, batch_size=6)
        for number, folder in enumerate((shard_folder, other_shards), start=1)
    ]
    with pytest.raises(ValueError, match="temporal_views=1 in {}, 2 in {}".format(*names)):
        MixtureDataModule(views)
    with pytest.raises(ValueError, match="a mixture needs at least one source"):
        MixtureDataModule([])
    with pytest.raises(ValueError, match="batch_size=3 must be a multiple of the 2 clips"):
        MixtureDataModule([clips(shard_folder, clips_per_video=2)], batch_size=3)
    with pytest.raises(ValueError, match="set its augment_on to 'worker'"):
        MixtureDataModule([clips(shard_folder, augment_on="device")])
    with pytest.raises(ValueError, match=r"images=none and image_fraction=0\.5: give both"):
        MixtureDataModule([clips(shard_folder)], image_fraction=0.5)


def robot(folder, **settings):
    return TrajectoryDataModule(str(folder), 5, image_size=16, batch_size=2, **settings)


def packed(out, episodes, specification):
    pack_trajectories(episodes, out, specification=specification)
    return out


def test_the_normaliser_is_that_of_the_rows_in_the_ratio_of_the_weights(
    episode, specification, tmp_path
):
    """The column "constant" is 0 or 2 in one source and 10 in the other, which counts threefold."""
    one = packed(tmp_path / "one", [episode(0), episode(2)], specification)
    other = packed(tmp_path / "other", [episode(10, num_frames=30)], specification)
    statistics = MixtureDataModule([robot(one), robot(other)], [1, 3], batch_size=4).statistics
    assert statistics.state_mean[1] == pytest.approx(0.25 * 1 + 0.75 * 10)
    variance = 0.25 * (1 + 6.75**2) + 0.75 * (0 + 2.25**2)
    assert statistics.state_std[1] == pytest.approx(variance**0.5)
    rows = np.concatenate([np.tile(np.arange(20), 3), np.tile(np.arange(30), 6)])  # 60 and 180
    assert statistics.state_mean[0] == pytest.approx(rows.mean())
    assert statistics.state_std[0] == pytest.approx(rows.std())
    assert (statistics.state_min, statistics.state_max) == ((0, 0), (29, 10))
    turned = MixtureDataModule([robot(other), robot(one)], [3, 1], batch_size=4).statistics
    assert turned.action_std == pytest.approx(statistics.action_std)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state_names": ("time", "constant")}, r"state_names is \('clock'.*'time'"),
        (
            {"action_units": ("seconds",)},
            r"action_units is \('frames',\) in one, \('sec",
        ),
        ({"action_low": (-50.0,)}, r"action_low is \(-100\.0,\) in one, \(-50\.0,\) in other"),
        ({"frame": "base"}, "frame is '' in one, 'base' in other"),
    ],
)
def test_robots_whose_numbers_mean_other_things_are_refused_before_the_first_step(
    episode, specification, tmp_path, change, said
):
    one = packed(tmp_path / "one", [episode(0)], specification)
    other = packed(tmp_path / "other", [episode(1)], replace(specification, **change))
    data = MixtureDataModule([robot(one), robot(other)], batch_size=4, steps_per_epoch=1)
    with pytest.raises(ValueError, match=f"cannot train on all these sources: {said}"):
        data.setup()


def test_robots_of_other_rates_mix_only_if_their_windows_have_one(episode, specification, tmp_path):
    one = packed(tmp_path / "one", [episode(0)], specification)
    slower = replace(episode(1), frames_per_second=5.0)
    other = packed(tmp_path / "other", [slower], replace(specification, frames_per_second=5.0))
    data = MixtureDataModule([robot(one), robot(other)], batch_size=4)
    with pytest.raises(ValueError, match=r"frames_per_second is 10\.0 in one, 5\.0 in other"):
        _ = data.specification
    joined = robot(one, frames_per_second=5.0, actions="concatenate")
    data = MixtureDataModule([joined, robot(other)], batch_size=4)
    with pytest.raises(ValueError, match="mode of actions is 'concatenate' in one, 'recorded' in"):
        _ = data.statistics


def test_the_bounds_of_pose_differences_are_the_extremes_of_all_sources(
    episode, specification, tmp_path
):
    """A hand that moves along x by 1 or by 3 per frame, seen at 10 and at 5 frames per second."""
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    poses = {"state_names": names, "state_units": ("1",) * 7}
    modules = []
    for name, rate, step in (("one", 10.0, 1.0), ("other", 5.0, 3.0)):
        states = np.zeros((20, 7), np.float32)
        states[:, 0] = step * np.arange(20)
        said = replace(
            specification,
            **poses,
            frames_per_second=rate,
            rotation="extrinsic xyz Euler, radians",
        )
        moving = replace(episode(0), states=states, frames_per_second=rate)
        packed(tmp_path / name, [moving], said)
        modules.append(robot(tmp_path / name, actions="pose_difference", frames_per_second=5.0))
    data = MixtureDataModule(modules, [1, 1], batch_size=4, steps_per_epoch=1)
    data.setup()
    assert data.specification.action_low[0] == pytest.approx(2)  # two frames of 1
    assert data.specification.action_high[0] == pytest.approx(3)
    assert data.statistics.action_mean[0] == pytest.approx(2.5)
    assert data.statistics.action_std[0] == pytest.approx(0.5)
    assert data.action_windows.mode == "pose_difference"
    assert data.specification.frames_per_second == 5


def test_clips_have_no_statistics_and_mix_with_clips_only(shard_folder, trajectory_folder):
    assert not hasattr(MixtureDataModule([clips(shard_folder)]), "statistics")
    with pytest.raises(ValueError, match="clips and trajectories cannot share batches"):
        MixtureDataModule([clips(shard_folder), robot(trajectory_folder)])


def test_robots_of_one_specification_mix(trajectory_folder, specification):
    windows = TrajectoryDataModule(str(trajectory_folder), 5, image_size=16, batch_size=2)
    data = MixtureDataModule([windows, windows], [1, 1], batch_size=4, steps_per_epoch=2)
    assert data.specification == specification
    batch = next(iter(data.train_dataloader()))
    assert batch.frames.shape == (4, 3, 5, 16, 16)
    name = Path(trajectory_folder).name
    assert {source_of(key) for key in batch.keys} == {f"0-{name}", f"1-{name}"}
