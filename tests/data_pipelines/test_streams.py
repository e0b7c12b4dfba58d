import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipelines.batch import ClipBatch, TrajectoryBatch
from data_pipelines.plan import EpochPlan, ResumableBatchSampler, Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import NoUsableSampleError, SkipCounter, TooManySkippedError
from data_pipelines.streams import (
    ClipDataset,
    CountingLoader,
    TrajectoryDataset,
    collate,
    refuse_set_without_fitting_video,
)
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import RandomResizedClipCrop, ResizeWholeFrame

PIXELS = (1, 3, 4)  # of (batch, 3, time, height, width)


@pytest.fixture(scope="module")
def index(shard_folder):
    return ShardIndex.load(shard_folder)


def clips(index, **settings):
    settings = {"clip_length_frames": 6, "transform": ResizeWholeFrame(32), **settings}
    return ClipDataset(index, **settings)


def loader(dataset, *, skips=None, steps=4, num_workers=0, slots=3):
    sampler = ResumableBatchSampler(
        EpochPlan([len(dataset)], seed=0), slots_per_batch=slots, steps_per_epoch=steps
    )
    skips = skips or SkipCounter(1.0)
    return CountingLoader(dataset, sampler, skips=skips, num_workers=num_workers)


def damaged(shard_folder, folder, bad):
    """A copy of the shards in which the videos of some samples are words."""
    copied = Path(shutil.copytree(shard_folder, folder / "damaged"))
    (copied / "index.json").unlink()
    for sample in ShardIndex.load(shard_folder).samples:
        if int(sample.key[-2:]) in bad:
            path, member = copied / Path(sample.shard).name, sample.members["mp4"]
            data = bytearray(path.read_bytes())
            data[member.offset : member.offset + member.size] = b"words" + b" " * (member.size - 5)
            path.write_bytes(data)
    return ShardIndex.load(copied)


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


def test_the_number_of_workers_changes_nothing(index):
    dataset = clips(index, transform=RandomResizedClipCrop(24))
    alone, helped = list(loader(dataset)), list(loader(dataset, num_workers=1))
    for one, other in zip(alone, helped, strict=True):
        assert one.keys == other.keys and torch.equal(one.video, other.video)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_video_is_replaced_counted_and_named(shard_folder, tmp_path, num_workers):
    index = damaged(shard_folder, tmp_path, bad={3, 8})
    skips = SkipCounter(1.0)
    batches = list(loader(clips(index), skips=skips, num_workers=num_workers))  # one pass
    used = [key for batch in batches for key in batch.keys]
    assert len(used) == 12 and not {"odd/video03", "even/video08"} & set(used)
    assert set(skips.keys) == {"odd/video03", "even/video08"}
    assert skips.num_skipped >= 2 and skips.num_seen == 12 + skips.num_skipped
    (reason,) = skips.reasons
    assert reason.startswith("not a video")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_isolated_decoding_gives_the_same_batches(index, num_workers):
    direct = list(loader(clips(index)))
    isolated = list(loader(clips(index, isolate_decoding=True), num_workers=num_workers))
    for one, other in zip(direct, isolated, strict=True):
        assert one.keys == other.keys and torch.equal(one.video, other.video)


ABORTING_DECODER = '''
import os
from data_pipelines.decoders.pyav_decoder import PyavDecoder

class AbortingDecoder(PyavDecoder):
    """Aborts the process, as decord does on some damaged files, on one video of the twelve."""

    def _decode(self, indices):
        if self.name == "odd/video03":
            os.abort()
        return super()._decode(indices)
'''


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_decoder_that_aborts_costs_one_sample_if_it_is_isolated(
    index, tmp_path, monkeypatch, num_workers
):
    (tmp_path / "aborting.py").write_text(ABORTING_DECODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    decoder = importlib.import_module("aborting").AbortingDecoder
    monkeypatch.setattr("data_pipelines.streams.decoder_class", lambda name: decoder)
    skips = SkipCounter(1.0)
    dataset = clips(index, isolate_decoding=True)
    batches = list(loader(dataset, skips=skips, num_workers=num_workers))  # one pass
    assert sum(len(batch.keys) for batch in batches) == 12
    assert set(skips.keys) == {"odd/video03"}
    assert set(skips.reasons) == {"AbortingDecoder crashed on it (signal 6)"}


def test_a_replacement_is_decided_by_its_slot(shard_folder, tmp_path):
    dataset = clips(damaged(shard_folder, tmp_path, bad={0}))
    keys = [dataset[Slot(0, seed=7)].key for _ in range(3)]
    assert len(set(keys)) == 1
    assert len({dataset[Slot(0, seed=seed)].key for seed in range(20)}) > 5


def test_changed_bytes_are_skipped_and_name_their_shard(shard_folder, tmp_path):
    copied = Path(shutil.copytree(shard_folder, tmp_path / "flipped"))
    sample = ShardIndex.load(copied).samples[0]
    data = bytearray(Path(sample.shard).read_bytes())
    data[sample.members["mp4"].offset + 99] ^= 4
    Path(sample.shard).write_bytes(data)
    (skip,) = clips(ShardIndex.load(copied))[Slot(0, seed=0)].skipped
    assert skip.key == "even/video00"
    assert "shard-000000.tar" in skip.reason and "not what was packed" in skip.reason


def test_a_budget_stops_the_run(shard_folder, tmp_path):
    index = damaged(shard_folder, tmp_path, bad=set(range(6)))
    skips = SkipCounter(0.25, grace_samples=10)
    with pytest.raises(TooManySkippedError, match=r"more than max_skipped_fraction=0\.25"):
        list(loader(clips(index), skips=skips, steps=40))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_clip_longer_than_every_video_ends_the_run_in_one_line(index, num_workers):
    dataset = clips(index, clip_length_frames=64, frames_per_second=10)
    message = (
        r"^no usable video: 12 of 12 samples skipped; first: key '.*': clip needs 64 frames at 10 "
        r"frames per second \(6\.4 s\) but the video has \d+ \(\d\.\d s\)$"
    )
    with pytest.raises(NoUsableSampleError, match=message):
        list(loader(dataset, num_workers=num_workers))


def test_a_clip_longer_than_every_video_is_refused_before_the_run(index):
    with pytest.raises(NoUsableSampleError, match=r"12 of 12 .* needs 32 frames .* video has 20"):
        refuse_set_without_fitting_video(index, 32)
    refuse_set_without_fitting_video(index, 31)
    refuse_set_without_fitting_video(index, 31, frames_per_second=10)


def test_short_videos_may_repeat_their_last_frame(index, index_of):
    sample = clips(index, clip_length_frames=24, short_video="repeat_last")[Slot(0, seed=0)]
    assert index_of(sample.video, PIXELS).tolist() == [[*range(20), 19, 19, 19, 19]]


@pytest.fixture(scope="module")
def trajectories(trajectory_folder):
    return ShardIndex.load(trajectory_folder)


def windows(index, **settings):
    settings = {"clip_length_frames": 5, "transform": ResizeWholeFrame(32), **settings}
    return TrajectoryDataset(index, **settings)


def test_frames_states_and_actions_stay_in_step(trajectories, index_of):
    dataset = windows(trajectories, windows_per_trajectory=3)
    batch = collate([dataset[Slot(n, seed=n)] for n in range(6)])
    assert isinstance(batch, TrajectoryBatch)
    assert batch.frames.shape == (18, 3, 5, 32, 32)
    seen = index_of(batch.frames, PIXELS)  # (batch, time)
    np.testing.assert_array_equal(batch.states[..., 0].numpy(), seen)
    np.testing.assert_array_equal(batch.actions[..., 0].numpy(), seen[:, :-1] + 0.5)
    assert batch.states[:, 0, 1].tolist() == [n for n in range(6) for _ in range(3)]
    assert batch.keys[:4] == ("episode00",) * 3 + ("episode01",)
    assert len({row[0] for row in seen.tolist()}) > 3


def test_a_stride_joins_the_actions_in_between(trajectories, index_of):
    sample = windows(trajectories, frame_stride=3, concatenate_actions=True)[Slot(1, seed=0)]
    seen = index_of(sample.frames, PIXELS)[0]
    assert np.diff(seen).tolist() == [3] * 4
    assert sample.actions.shape == (1, 4, 3)
    expected = seen[:-1, None] + np.array([0.5, 1.5, 2.5])
    np.testing.assert_array_equal(sample.actions[0].numpy(), expected)


def test_a_stride_that_loses_actions_is_refused(trajectories):
    with pytest.raises(ValueError, match="frame_stride=2 leaves out frames but not their actions"):
        windows(trajectories, frame_stride=2)
    with pytest.raises(ValueError, match="frame_stride must be at least 1, got 0"):
        windows(trajectories, frame_stride=0)


def test_a_window_may_be_the_whole_trajectory_but_not_more(trajectories, index_of):
    whole = windows(trajectories, clip_length_frames=20)[Slot(0, seed=0)]
    assert index_of(whole.frames, PIXELS).tolist() == [list(range(20))]
    with pytest.raises(NoUsableSampleError, match=r"6 of 6 .* needs 21 frames .* has 20"):
        list(loader(windows(trajectories, clip_length_frames=21)))


def test_videos_are_no_trajectories(index):
    with pytest.raises(ShardError, match=r"has no states\.npy or no actions\.npy"):
        windows(index)


def test_a_resume_with_other_data_is_warned_of(index, caplog):
    first = loader(clips(index))
    first.data_fingerprint = "now"
    first.load_state_dict({"data_fingerprint": "now"})
    assert caplog.messages == []
    first.load_state_dict({"data_fingerprint": "before"})
    assert "the data or its order changed since the checkpoint" in caplog.text
