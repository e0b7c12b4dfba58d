import time

import pytest
import torch
from torch.utils.data import Dataset

from data_pipelines import remote_files, signs_of_life, streams
from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.plan import EpochPlan, ResumableBatchSampler
from data_pipelines.remote_files import RetryPolicy
from data_pipelines.shard_index import ShardIndex
from data_pipelines.signs_of_life import SILENCE_SECONDS, show_life, show_life_in
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader
from data_pipelines.transforms import ResizeWholeFrame


@pytest.fixture
def silence(monkeypatch):
    """A worker that is silent for a second hangs."""
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 1.0)


def loader(dataset, *, slots):
    plan = EpochPlan([len(dataset)], seed=0)
    sampler = ResumableBatchSampler(plan, slots_per_batch=slots, steps_per_epoch=1)
    return CountingLoader(dataset, sampler, skips=SkipCounter(0.0), num_workers=1)


class Stuck(Dataset):
    """Hangs as a library does."""

    def __len__(self):
        return 4

    def __getitem__(self, slot):
        time.sleep(3)


def test_life_is_counted_where_somebody_listens_and_costs_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(signs_of_life, "_counters", [])
    show_life()
    counter = torch.zeros(1, dtype=torch.int64)
    show_life_in(counter, 0)
    show_life()
    show_life()
    assert counter.item() == 2


def test_one_slow_download_is_waited_for_beyond_the_silence(
    shard_folder, web_store, silence, monkeypatch
):
    monkeypatch.setattr(remote_files, "PIECE_BYTES", 500)  # as a shard has pieces of 16 MiB
    store = web_store(shard_folder)
    index = ShardIndex.load(store.url)
    store.fault_of = lambda request: "drip"  # 0.4 s for each piece
    dataset = ClipDataset(index, clip_length_frames=6, transform=ResizeWholeFrame(16))
    begin, before = time.monotonic(), len(store.requests)
    (batch,) = loader(dataset, slots=1)
    assert len(batch.keys) == 1 and len(store.requests) - before >= 5
    assert time.monotonic() - begin > 2


def test_a_batch_of_slow_samples_is_waited_for_beyond_the_silence(shard_folder, silence):
    class Slow(ClipDataset):
        def read(self, *arguments):
            time.sleep(0.4)
            return super().read(*arguments)

    index = ShardIndex.load(shard_folder)
    dataset = Slow(index, clip_length_frames=6, transform=ResizeWholeFrame(16))
    begin = time.monotonic()
    (batch,) = loader(dataset, slots=8)
    assert len(batch.keys) == 8 and time.monotonic() - begin > 3


def test_workers_that_hang_end_the_run_with_what_to_do(silence):
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="no reading process showed a sign of life for 1 s: "):
        list(loader(Stuck(), slots=2))
    assert time.monotonic() - begin < 10


def test_one_read_cannot_be_silent_for_longer_than_what_hangs():
    assert RetryPolicy().timeout_seconds < SILENCE_SECONDS
    with pytest.raises(ValueError, match="timeout_seconds=120 must be below 120"):
        RetryPolicy(timeout_seconds=SILENCE_SECONDS)
