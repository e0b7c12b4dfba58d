"""Shards of 1, 7, 50 and 0 samples, on 1 to 4 ranks with 0 to 3 workers each: one order for all.

What is promised: the joined batches are the same whatever the number of ranks and workers, all
ranks take equally many steps, no sample comes twice in an epoch, and none waits for ever. Ranks
that would read different data say so at once, all of them.

As a program this file is one of four processes: test_sample_order.py RANK PORT FOLDER.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from data_pipelines.datamodules import ClipDataModule
from tests.reliability.corrupt_shards import tar_of
from tests.reliability.corrupt_videos import whole_videos

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
SETS = [(1, 7, 50, 0), (50,), (7, 0, 7, 1), (0, 50, 1), (13, 1, 1, 1)]  # samples per shard
WORLDS, WORKERS = (1, 2, 3, 4), (0, 1, 2, 3)
GLOBAL_BATCH = 12
SECONDS = 60  # after which a rank that waits for another gives up


def write_set(folder, sizes):
    """Writes tars with so many samples each; an empty one is what tar makes of no files."""
    videos, number = whole_videos(), 0
    folder.mkdir(parents=True)
    for shard, size in enumerate(sizes):
        keys = range(number, number + size)
        members = [(f"s{key:03d}.mp4", videos[key % len(videos)]) for key in keys]
        (folder / f"shard-{shard:06d}.tar").write_bytes(tar_of(members))
        number += size
    return folder


def name_of(sizes):
    return "-".join(map(str, sizes))


def trainer_of(rank, world_size, *, batches_trained=0):
    """What a data module asks of a trainer."""

    class Trainer:
        global_rank, _accelerator_connector = rank, None

        class fit_loop:
            class epoch_loop:
                class batch_progress:
                    class total:
                        processed = batches_trained

    Trainer.world_size = world_size
    return Trainer()


def data_of(folder, rank, world_size, *, batches_trained=0, **options):
    settings = {"image_size": 16, "isolate_decoding": False, "val_shards": str(folder)}
    settings |= {"batch_size": GLOBAL_BATCH // world_size, "seed": 5, "decoder": "pyav"}
    data = ClipDataModule(str(folder), 2, **(settings | options))
    data.trainer = trainer_of(rank, world_size, batches_trained=batches_trained)
    return data


def joined(ranks):
    """Keys of all ranks, step by step: rank 0's part of a batch, rank 1's, and so on."""
    assert len({len(steps) for steps in ranks}) == 1, "ranks take unequal numbers of steps"
    return [list(itertools.chain(*step)) for step in zip(*ranks, strict=True)]


def times_seen(steps):
    return Counter(itertools.chain(*steps))


def planned(loader, samples):
    """The keys that a loader would read, without reading."""
    return [
        [samples[slot.sample_index].key for slot in batch if not slot.is_padding]
        for batch in loader.batch_sampler
    ]


@pytest.mark.parametrize("sizes", SETS, ids=name_of)
def test_every_world_plans_one_order_in_equal_steps(tmp_path, sizes):
    """Seen to fail with ranks that do not know their part: samples came twice, orders differed."""
    folder, orders = write_set(tmp_path / "set", sizes), []
    for world_size in WORLDS:
        ranks = [data_of(folder, rank, world_size) for rank in range(world_size)]
        parts = [planned(data.train_dataloader(), data.index.samples) for data in ranks]
        orders.append(joined(parts))
        assert len(parts[0]) == sum(sizes) // GLOBAL_BATCH
    assert all(order == orders[0] for order in orders)
    assert max(times_seen(orders[0]).values()) == 1


def test_the_next_epoch_goes_on_where_another_world_stopped(tmp_path):
    folder = write_set(tmp_path / "set", SETS[0])
    two = [data_of(folder, rank, 2, batches_trained=4) for rank in range(2)]
    three = [data_of(folder, rank, 3, batches_trained=4) for rank in range(3)]
    orders = [
        joined([planned(data.train_dataloader(), data.index.samples) for data in ranks])
        for ranks in (two, three)
    ]
    assert orders[0] == orders[1]


# Real processes: gloo, a collective in every step, workers that read and decode.


def cases():
    """The first set with every number of workers, the others with none: 32 for all worlds."""
    for place, sizes in enumerate(SETS):
        for num_workers in WORKERS if place == 0 else WORKERS[:1]:
            yield sizes, num_workers


def read_all(folder, rank, world_size, num_workers):
    """Reads an epoch and a validation; returns each step's keys."""
    data, seen = data_of(folder, rank, world_size, num_workers=num_workers), {}
    train, data.num_workers = data.train_dataloader(), min(num_workers, 1)
    for name, loader in (("train", train), ("val", data.val_dataloader())):
        seen[name] = []
        for batch in loader:
            if world_size > 1:
                dist.all_reduce(torch.ones(1))  # unequal steps would wait here
            seen[name].append(list(batch.only_valid().keys))
    return seen


DIFFERENCES = {
    "a sample less": {"shards": "older"},
    "shards divided otherwise": {"shards": "divided"},
    "another seed": {"seed": 6},
    "another step": {"batches_trained": 2},
    "another length": {"steps_per_epoch": 3},
    "another crop": {"crop_scale": (0.5, 1.0)},
    "other validation": {"val_shards": "older"},
}


def complaints(base, rank):
    """What each rank says when rank 1 of two differs, and after how many seconds."""
    said = {}
    for name, options in DIFFERENCES.items():
        places = {key: str(base / options[key]) for key in options if "shards" in key}
        options = {**options, **places} if rank == 1 else {}
        begin, folder = time.monotonic(), options.pop("shards", base / "newer")
        data = data_of(folder, rank, 2, **options)
        message = ""
        for make in (data.train_dataloader, data.val_dataloader):
            try:
                make()
            except ValueError as error:
                message = message or str(error)
        said[name] = message, time.monotonic() - begin
    return said


def run(rank, port, base):
    """One process in worlds of 4, 3 and 2, and alone."""
    torch.set_num_threads(1)
    found = {}
    for world_size in sorted(WORLDS, reverse=True):
        if rank >= world_size:
            break
        join(rank, world_size, port)
        for sizes, num_workers in cases():
            case = f"{name_of(sizes)} {world_size} {num_workers}"
            found[case] = read_all(base / name_of(sizes), rank, world_size, num_workers)
        if world_size == 2:
            found["complaints"] = complaints(base, rank)
        dist.barrier()
        dist.destroy_process_group()
    return found


def join(rank, world_size, port):
    dist.init_process_group(
        "gloo",
        f"tcp://127.0.0.1:{port + world_size}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=SECONDS),
    )


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each of four processes found."""
    base = tmp_path_factory.mktemp("sets")
    for sizes in SETS:
        write_set(base / name_of(sizes), sizes)
    for name, sizes in {"newer": (20, 10), "older": (20, 9), "divided": (10, 10, 10)}.items():
        write_set(base / name, sizes)
    return started(base, num_ranks=len(WORLDS))


def started(base, *, num_ranks):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, __file__]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ranks = [
        subprocess.Popen([*program, str(rank), str(port), str(base)], env=environment)
        for rank in range(num_ranks)
    ]
    try:
        assert [rank.wait(400) for rank in ranks] == [0] * num_ranks
    finally:  # one that waits for ever
        for rank in ranks:
            rank.kill()
    return [json.loads((base / f"found-{rank}.json").read_text()) for rank in range(num_ranks)]


@LONG
def test_all_settings_read_one_order_in_equal_steps_and_none_hangs(processes):
    """Seen to fail with rank 1 a shard short and nobody asking: its steps were fewer."""
    orders = {sizes: [] for sizes in SETS}
    for world_size in WORLDS:
        for sizes, num_workers in cases():
            case = f"{name_of(sizes)} {world_size} {num_workers}"
            ranks = [found[case] for found in processes[:world_size]]
            orders[sizes].append(joined([rank["train"] for rank in ranks]))
            validated = times_seen(joined([rank["val"] for rank in ranks]))
            assert validated == Counter(f"s{n:03d}" for n in range(sum(sizes))), case
    assert sum(map(len, orders.values())) == 32
    for found in orders.values():
        assert all(order == found[0] for order in found)
        assert max(times_seen(found[0]).values()) == 1


@LONG
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_rank_with_other_data_is_noticed_by_all_within_seconds(processes, name):
    """Seen to fail without the comparison: no rank said anything."""
    said = [found["complaints"][name] for found in processes[:2]]
    assert said[0][0] == said[1][0] and "\n" not in said[0][0]
    assert said[0][0].startswith("1 of 2 ranks plan other batches than rank 0 (data ")
    assert max(seconds for _, seconds in said) < 10


if __name__ == "__main__":
    place = Path(sys.argv[3])
    result = run(int(sys.argv[1]), int(sys.argv[2]), place)
    (place / f"found-{sys.argv[1]}.json").write_text(json.dumps(result))
