import importlib
import shutil
from pathlib import Path

import pytest
import torch

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.plan import EpochPlan, ResumableBatchSampler, Slot
from data_pipelines.shard_index import ShardIndex
from data_pipelines.skips import NoUsableSampleError, SkipCounter, TooManySkippedError
from data_pipelines.streams import CountingLoader
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


def test_a_resume_with_other_data_is_refused_or_if_allowed_warned_of(index, caplog):
    first = loader(clips(index))
    first.data_fingerprint = "now"
    first.load_state_dict({"data_fingerprint": "now"})
    with pytest.raises(ValueError, match=r"changed since the checkpoint \(before before, now now:"):
        first.load_state_dict({"data_fingerprint": "before"})
    assert caplog.messages == []
    first.allow_data_change = True
    first.load_state_dict({"data_fingerprint": "before"})
    assert "samples will not follow as in an uninterrupted run" in caplog.text
