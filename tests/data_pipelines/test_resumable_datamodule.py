import pytest

from data_pipelines.batch import SkippedSample
from data_pipelines.datamodules import ClipDataModule
from data_pipelines.resumable_datamodule import as_stream


class Trainer:
    def __init__(self, rank, world_size):
        self.global_rank, self.world_size = rank, world_size


def module(shard_folder, rank=0, world_size=1):
    data = ClipDataModule(str(shard_folder), 4, image_size=16, max_skipped_fraction=1.0)
    data.trainer = Trainer(rank, world_size)
    return data


def counted(name, times):
    return {
        "num_seen": 10 * times,
        "num_skipped": times,
        "reasons": {"bad": times},
        "keys": {name: times},
        "reason_of_key": {name: "bad"},
    }


def test_skips_are_counted_over_a_resume(shard_folder):
    before, after = module(shard_folder), module(shard_folder)
    before.skips.count(9, [SkippedSample("kitchen", "too short")])
    after.load_state_dict(before.state_dict())
    assert after.skips.state_dict() == before.skips.state_dict()
    assert after.skips.reason_of_key == {"kitchen": "too short"}


@pytest.mark.parametrize(
    ("world_size", "expected"), [(1, [6]), (2, [1 + 3, 2]), (3, [1, 2, 3]), (4, [1, 2, 3, 0])]
)
def test_no_count_is_lost_when_the_number_of_ranks_changes(shard_folder, world_size, expected):
    state = {"skips": [counted("a", 1), counted("b", 2), counted("c", 3)]}
    found = []
    for rank in range(world_size):
        data = module(shard_folder, rank, world_size)
        data.load_state_dict(state)
        found.append(data.skips.num_skipped)
    assert found == expected


def test_a_checkpoint_of_before_has_no_counts(shard_folder):
    data = module(shard_folder)
    data.load_state_dict({})
    assert data.skips.num_seen == 0


def test_a_stream_gives_the_batches_of_its_loader(shard_folder):
    loader = ClipDataModule(str(shard_folder), 4, image_size=16, batch_size=5).train_dataloader()
    stream = as_stream(loader)
    assert len(stream) == len(loader) == 2
    assert [batch.keys for batch in stream] == [batch.keys for batch in loader]
