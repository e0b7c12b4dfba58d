import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.datamodules import ClipDataModule, ImageDataModule, TrajectoryDataModule
from data_pipelines.plan import Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shards import pack_videos
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
        batch = batch.only_valid()
        self.validated.append((batch.keys, int(batch.video.long().sum())))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(datamodule, folder, *, max_steps, ckpt_path=None, fail_at=None, module=None, **settings):
    module = module or Recorder(fail_at)
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


def test_a_batch_that_would_hold_a_sample_twice_is_refused_with_and_without_steps(shard_folder):
    for steps in (None, 3):
        with pytest.raises(ValueError, match="12 samples x 2 clips < global batch 32"):
            clips(shard_folder, batch_size=32, steps_per_epoch=steps).train_dataloader()
    options = {"batch_size": 32, "steps_per_epoch": 1, "samples_may_repeat": True}
    (batch,) = clips(shard_folder, **options).train_dataloader()
    assert max(map(batch.keys.count, batch.keys)) == 4  # 2 clips, twice
    (batch,) = clips(shard_folder, batch_size=24, steps_per_epoch=1).train_dataloader()
    assert {batch.keys.count(key) for key in batch.keys} == {2}


@pytest.mark.parametrize(
    ("module", "own"),
    [
        (ClipDataModule, {"clips_per_video", "augment_on", "isolate_decoding", "spatial_views"}),
        (TrajectoryDataModule, {"windows_per_trajectory", "actions", "isolate_decoding"}),
        (ImageDataModule, {"image_size", "crop_scale"}),
    ],
)
def test_the_command_line_lists_every_argument_with_its_help(module, own):
    parser = ArgumentParser()
    parser.add_class_arguments(module, "data")
    helps = {action.dest.removeprefix("data."): action.help for action in parser._actions}
    shared = {
        "shards", "batch_size", "num_workers", "prefetch_factor", "steps_per_epoch", "val_shards",
        "samples_may_repeat", "val_batches", "max_skipped_fraction", "seed", "cache_folder",
        "cache_gigabytes",
    }  # fmt: skip
    assert shared | own <= helps.keys()
    assert not {"options", "clips_per_sample"} & helps.keys()
    assert all(helps.values())
    defaults = vars(parser.get_defaults().data)
    assert defaults["batch_size"] == (32 if module is TrajectoryDataModule else 8)
    with pytest.raises(TypeError, match="batch_siz"):
        module("shards", batch_siz=3)


def test_settings_handed_on_change_no_fingerprint_of_the_sampling():
    def fingerprint(**options):
        return ClipDataModule("shards", 6, **options).sampling_fingerprint

    assert fingerprint() == fingerprint(num_workers=2, samples_may_repeat=True, cache_folder="x")
    assert fingerprint() != fingerprint(clips_per_video=2)
    assert ClipDataModule("s", 8, batch_size=4, seed=3).sampling_fingerprint == "6e7f0395"


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


def test_joined_actions_come_with_their_own_meaning_and_statistics(
    trajectory_folder, specification, tmp_path
):
    data = TrajectoryDataModule(
        str(trajectory_folder),
        5,
        image_size=16,
        batch_size=6,
        frames_per_second=5,  # of 10
        actions="concatenate",
    )
    seen = [batch.actions.shape for batch in data.train_dataloader()]
    assert seen == [(6, 4, 2)]
    assert data.specification.action_names == ("step@0", "step@1")
    assert data.specification.action_low == (-100, -100)
    assert data.specification.frames_per_second == 5
    assert data.statistics.action_mean == pytest.approx([9.5, 9.5])
    assert data.action_windows.steps_per_action == 2


@pytest.mark.parametrize(
    "taken", [{"frame_stride": 2, "windows_per_trajectory": 3}, {"frames_per_second": 5}]
)
def test_the_same_trajectories_come_with_every_recorded_frame(trajectory_folder, taken):
    data = TrajectoryDataModule(
        str(trajectory_folder), 5, image_size=16, batch_size=6, actions="concatenate", seed=3,
        **taken,
    )  # fmt: skip
    every = data.every_frame()
    batches = list(every.train_dataloader())
    assert [tuple(batch.frames.shape[:3]) for batch in batches] == [(3, 3, 9)] * 2
    assert [batch.actions.shape for batch in batches] == [(3, 8, 1)] * 2
    assert len({key for batch in batches for key in batch.keys}) == 6 and every.seed == 3


def test_a_batch_of_every_recorded_frame_holds_no_trajectory_twice(trajectory_folder):
    """Seen to fail without the bound: "6 samples < global batch 12"."""
    data = TrajectoryDataModule(
        str(trajectory_folder), 5, image_size=16, batch_size=24, windows_per_trajectory=4,
        frame_stride=2, actions="concatenate",
    )  # fmt: skip
    (batch,) = data.every_frame().train_dataloader()
    assert len(set(batch.keys)) == 6


def test_windows_longer_than_all_trajectories_are_refused_at_the_start(trajectory_folder):
    data = TrajectoryDataModule(
        str(trajectory_folder),
        8,
        image_size=16,
        batch_size=6,
        frame_stride=3,
        actions="concatenate",
    )
    with pytest.raises(NoUsableSampleError, match="needs 22 frames but the video has 20"):
        data.setup()


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5])
def test_prediction_sees_every_sample_once_whatever_the_batch_size(shard_folder, batch_size):
    data = ClipDataModule(
        str(shard_folder), clip_length_frames=4, image_size=32, batch_size=batch_size
    )
    keys = [key for batch in data.predict_dataloader() for key in batch.only_valid().keys]
    assert sorted(keys) == sorted(sample.key for sample in data.index.samples)


def test_validation_sees_every_video_once_and_says_which_rows_only_fill_up(shard_folder):
    data = clips(shard_folder, val_shards=str(shard_folder), batch_size=8, clips_per_video=1)
    first, second = list(data.val_dataloader())
    assert first.is_valid.all() and second.is_valid.tolist() == [True] * 4 + [False] * 4
    keys = first.keys + second.only_valid().keys
    assert sorted(keys) == sorted(sample.key for sample in data.index.samples)
    assert second.video.shape == first.video.shape and not second.video[4:].any()


def test_a_damaged_video_leaves_its_place_in_validation_empty(shard_folder, tmp_path):
    copied = Path(shutil.copytree(shard_folder, tmp_path / "copied"))
    sample = ShardIndex.load(copied).samples[2]
    bytes_of_shard = bytearray(Path(sample.shard).read_bytes())
    bytes_of_shard[sample.members["mp4"].offset + 50] ^= 1
    Path(sample.shard).write_bytes(bytes_of_shard)
    data = clips(copied, val_shards=str(copied), max_skipped_fraction=1.0)
    batches = list(data.val_dataloader())
    used = [key for batch in batches for key in batch.only_valid().keys]
    assert len(used) == len(set(used)) == 11 and sample.key not in used
    assert dict(data.skips.keys) == {sample.key: 1} and data.skips.num_seen == 12
    assert sample.key in batches[0].keys


def test_a_validation_in_which_nothing_can_be_read_is_an_error(shard_folder, tmp_path):
    copied = Path(shutil.copytree(shard_folder, tmp_path / "copied"))
    for sample in ShardIndex.load(copied).samples:
        bytes_of_shard = bytearray(Path(sample.shard).read_bytes())
        bytes_of_shard[sample.members["mp4"].offset + 50] ^= 1
        Path(sample.shard).write_bytes(bytes_of_shard)
    data = clips(copied, val_shards=str(copied), max_skipped_fraction=1.0)
    with pytest.raises(NoUsableSampleError, match="12 of 12 samples skipped; first: key"):
        list(data.val_dataloader())


# One process of two: with a collective in every step, unequal steps would wait for ever.
RANK = """
import json, sys
import torch
import torch.distributed as dist
from data_pipelines.batch import SkippedSample
from data_pipelines.datamodules import ClipDataModule

rank, port, folders = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

class Trainer:  # what the data module asks of one
    world_size, global_rank, _accelerator_connector = 2, rank, None
    class fit_loop:
        class epoch_loop:
            class batch_progress:
                class total:
                    processed = 0

result = {}
for folder in folders:
    for num_workers in (0, 1, 2):
        data = ClipDataModule(
            folder, 4, image_size=16, batch_size=3, num_workers=num_workers, val_shards=folder
        )
        data.trainer = Trainer()
        seen = {}
        for name, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
            seen[name] = []
            for batch in loader:
                dist.all_reduce(torch.ones(1))
                seen[name].append(batch.only_valid().keys)
        result[f"{folder} {num_workers}"] = seen
data.skips.count(1, [SkippedSample(f"video of rank {rank}", "why")])
result["state"] = data.state_dict()
dist.barrier()
print(json.dumps(result))
"""


def test_two_ranks_and_any_workers_and_shards_see_all_and_never_hang(video_folder, tmp_path):
    folders, videos = [], tmp_path / "eight"
    videos.mkdir()
    for path in sorted(video_folder.rglob("*.mp4"))[:8]:
        shutil.copy(path, videos)
    for num_shards in (1, 3, 8):
        folders.append(str(tmp_path / f"{num_shards}-shards"))
        packed = pack_videos(videos, folders[-1], samples_per_shard=-(-8 // num_shards))
        assert len(packed.index.shards) == num_shards
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(port), *folders],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for rank in (0, 1)
    ]
    results = [json.loads(rank.communicate(timeout=240)[0].splitlines()[-1]) for rank in ranks]
    names = sorted(sample.key for sample in ShardIndex.load(folders[0]).samples)
    states = [result.pop("state")["skips"] for result in results]
    assert states[0] == states[1]
    assert [list(counts["keys"]) for counts in states[0]] == [
        ["video of rank 0"],
        ["video of rank 1"],
    ]
    assert len(results[0]) == 9
    for setting, first in results[0].items():
        second = results[1][setting]
        trained = [key for rank in (first, second) for keys in rank["train"] for key in keys]
        assert len(first["train"]) == len(second["train"]) == 1  # 8 fill one global batch of 6
        assert len(set(trained)) == 6
        validated = [key for rank in (first, second) for keys in rank["val"] for key in keys]
        assert len(first["val"]) == len(second["val"]) and sorted(validated) == names


# Sampling, views and augmentation of clips.

AUGMENTATION = """
class_path: data_pipelines.datamodules.ClipDataModule
init_args:
  shards: {shards}
  clip_length_frames: 6
  image_size: 16
  batch_size: 4
  clips_per_video: 2
  clip_placement: jittered
  temporal_views: 2
  spatial_views: 3
  augment_on: {augment_on}
  augmentation:
    - class_path: torchvision.transforms.v2.ColorJitter
      init_args: {{brightness: 0.5, contrast: 0.5, hue: 0.1}}
    - class_path: torchvision.transforms.v2.RandomApply
      init_args:
        transforms:
          - class_path: torchvision.transforms.v2.GaussianBlur
            init_args: {{kernel_size: 3}}
    - class_path: torchvision.transforms.v2.RandAugment
    - class_path: torchvision.transforms.v2.RandomErasing
"""


class PixelRecorder(Recorder):
    """Keeps the clips themselves."""

    def training_step(self, batch, batch_index):
        self.pixels = [*getattr(self, "pixels", []), batch.video.clone()]
        return super().training_step(batch, batch_index)


def from_yaml(shard_folder, augment_on, **settings):
    parser = ArgumentParser()
    parser.add_subclass_arguments(ClipDataModule, "data")
    data = yaml.safe_load(AUGMENTATION.format(shards=shard_folder, augment_on=augment_on))
    data["init_args"].update(settings)
    return parser.instantiate_classes(parser.parse_object({"data": data})).data


def trained_pixels(data, folder, **settings):
    return torch.stack(fit(data, folder, module=PixelRecorder(), **settings).pixels)


def test_augmenting_on_the_device_gives_the_bytes_that_workers_give(shard_folder, tmp_path):
    pixels = [
        trained_pixels(
            from_yaml(shard_folder, augment_on, num_workers=num_workers),
            tmp_path / f"{augment_on}{num_workers}",
            max_steps=6,
        )
        for augment_on in ("worker", "device")
        for num_workers in (0, 2)
    ]
    assert pixels[0].shape == (6, 4, 3, 6, 16, 16)
    assert all(torch.equal(pixels[0], other) for other in pixels[1:])
    plain = trained_pixels(
        from_yaml(shard_folder, "device", augmentation=None), tmp_path / "plain", max_steps=6
    )
    assert (plain != pixels[0]).double().mean() > 0.5


def test_a_resumed_run_augments_on_the_device_as_if_uninterrupted(shard_folder, tmp_path):
    whole = trained_pixels(from_yaml(shard_folder, "device"), tmp_path / "whole", max_steps=9)
    with pytest.raises(RuntimeError, match="killed"):
        fit(from_yaml(shard_folder, "device"), tmp_path / "cut", max_steps=9, fail_at=4)
    rest = trained_pixels(
        from_yaml(shard_folder, "device"),
        tmp_path / "cut",
        max_steps=9,
        ckpt_path=str(tmp_path / "cut" / "last.ckpt"),
    )
    assert torch.equal(rest, whole[4:])


@pytest.mark.parametrize("augment_on", ["worker", "device"])
def test_validation_is_never_augmented(shard_folder, tmp_path, augment_on):
    settings = {"val_shards": str(shard_folder), "steps_per_epoch": 1}
    augmented = fit(from_yaml(shard_folder, augment_on, **settings), tmp_path / "a", max_steps=1)
    plain = fit(
        from_yaml(shard_folder, augment_on, augmentation=None, **settings),
        tmp_path / "b",
        max_steps=1,
    )
    assert augmented.validated == plain.validated and len(plain.validated) > 1
    assert augmented.seen != plain.seen


def test_evaluation_sees_all_views_of_each_video_side_by_side(shard_folder):
    data = clips(
        shard_folder, val_shards=str(shard_folder), temporal_views=2, spatial_views=3, batch_size=12
    )
    batches = list(data.val_dataloader())
    assert [len(batch.video) for batch in batches] == [12] * 6  # two videos in each
    batch = batches[0]
    assert batch.keys[:6] == (batch.keys[0],) * 6 != batch.keys[6:]
    assert [tuple(view) for view in batch.views[:6]] == [(t, s) for t in (0, 1) for s in (0, 1, 2)]
    assert (batch.timestamps_seconds[0] == batch.timestamps_seconds[2]).all()
    assert (batch.timestamps_seconds[3] > batch.timestamps_seconds[2]).all()
    predicted = next(iter(data.predict_dataloader()))
    assert torch.equal(predicted.video, batch.video)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_more_views_than_a_batch_has_rows_are_divided_over_batches(shard_folder, num_workers):
    def validated(**settings):
        views = {"temporal_views": 3, "spatial_views": 3, "val_shards": str(shard_folder)}
        data = clips(shard_folder, **views, **settings)
        return data, [batch.only_valid() for batch in data.val_dataloader()]

    _, together = validated(batch_size=10)
    data, divided = validated(batch_size=4, num_workers=num_workers)
    assert [len(batch.video) for batch in divided] == [3] * 36
    for name in ("keys", "views"):
        assert sum((getattr(batch, name) for batch in divided), ()) == sum(
            (getattr(batch, name) for batch in together), ()
        )
    for name in ("video", "timestamps_seconds"):
        assert torch.equal(
            torch.cat([getattr(batch, name) for batch in divided]),
            torch.cat([getattr(batch, name) for batch in together]),
        )
    assert max(len(batch.video) for batch in data.predict_dataloader()) <= 4


def test_an_old_run_is_reproduced_in_training_and_evaluated_evenly(shard_folder):
    data = clips(
        shard_folder,
        frame_stride=4,
        clip_placement="official",
        short_video="official",
        val_shards=str(shard_folder),
        batch_size=24,
    )
    times = torch.cat([batch.timestamps_seconds for batch in data.train_dataloader()]) * 10
    # Parts of 10 to 15 frames are shorter than 6 strides of 4: 2 or 3 frames, the last repeated.
    assert set((times[:, 3:].diff(dim=1)).round().flatten().tolist()) == {0.0}
    times = torch.cat([batch.timestamps_seconds[:12] for batch in data.val_dataloader()]) * 10
    assert times[0].diff().round().tolist()[:4] == [4.0] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames_per_second": 5.0, "frame_stride": 2}, "exclude each other"),
        ({"temporal_views": 0}, "temporal_views=0 and spatial_views=1 must be at least 1"),
        ({"clip_placement": "official"}, None),
        ({"clip_placement": "official", "short_video": "loop"}, "'skip' and 'official', got"),
        ({"short_video": "official"}, "is `OfficialClipSampling`"),
        ({"augmentation": ["blur"]}, r"takes transforms of torchvision\.transforms\.v2, got"),
    ],
)
def test_sampling_settings_are_checked_before_anything_is_read(tmp_path, settings, message):
    if message is None:
        ClipDataModule(str(tmp_path), 6, **settings)
        return
    with pytest.raises(ValueError, match=message):
        ClipDataModule(str(tmp_path), 6, **settings)


def test_other_sampling_is_noticed_at_a_resume_and_other_workers_are_not(shard_folder):
    def fingerprint(**settings):
        return clips(shard_folder, **settings).train_dataloader().data_fingerprint

    assert fingerprint() == fingerprint(num_workers=2, val_batches=3)
    others = [{"seed": 1}, {"frame_stride": 2}, {"crop_scale": (0.5, 1.0)}, {"batch_size": 8}]
    assert len({fingerprint(), *(fingerprint(**other) for other in others)}) == 5


def test_a_run_is_resumed_with_other_data_only_where_that_is_allowed(shard_folder, tmp_path):
    """Seen to fail with the warning in the place of the refusal: nothing was raised."""
    whole = fit(clips(shard_folder), tmp_path, max_steps=4).seen
    last = str(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"-0-4-.* before, .*-1-4-.* now: .*allow_data_change"):
        fit(clips(shard_folder, seed=1), tmp_path / "b", max_steps=6, ckpt_path=last)
    other = clips(shard_folder, seed=1, allow_data_change=True)
    rest = fit(other, tmp_path / "b", max_steps=6, ckpt_path=last).seen
    assert len(rest) == 2 and len(whole) == 4


@pytest.mark.parametrize("isolate_decoding", [True, None, False])
def test_videos_without_checksums_are_decoded_in_a_child(shard_folder, tmp_path, isolate_decoding):
    foreign = Path(shutil.copytree(shard_folder, tmp_path / "foreign"))
    (foreign / "index.json").unlink()
    for folder, has_checksums in ((shard_folder, True), (foreign, False)):
        data = clips(folder, isolate_decoding=isolate_decoding)
        dataset = data.training_dataset(data.index)
        assert dataset[Slot(0, seed=0)].skipped == ()
        has_child = dataset._process is not None
        assert has_child == (not has_checksums if isolate_decoding is None else isolate_decoding)
