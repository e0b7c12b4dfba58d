"""Two ranks with different data are one rank with the joined batch: losses and gradients.

As a program this file is one rank: test_ranks.py RANK PORT NUM_RANKS prints what it measures.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import jepa.objectives
from jepa.objectives import (
    ActionHead,
    DenseL1,
    LatentMSE,
    Objective,
    Regularizer,
    SIGReg,
    TimeContrast,
    VICReg,
)
from jepa.objectives.ranks import num_ranks, sum_over_ranks

SAME_ON_ALL = (  # the joined loss
    *("SIGReg", "VICReg", "SIGReg, unequal", "VICReg, unequal"),
    *("ContrastivePrediction", "TimeContrast", "TimeContrast, unequal"),
)
NEEDED = {"TimeContrast": {"dim": 8}}  # options that have no default


def compare(part, linear, video, target, actions):
    if part.target_needs_gradient:
        target = linear(target)
    return part(linear(video), target)


def compare_context(part, linear, video, target, actions):
    context_ids, target_ids = (torch.tensor([ids] * len(video)) for ids in ([0, 1, 2], [5, 7]))
    ids = {"context_ids": context_ids, "target_ids": target_ids}
    return part.context(linear(video), target, **ids, grid=(2, 2, 2), step=20_000)


def regularize(part, linear, video, target, actions):
    return part(linear(video).transpose(0, 1), step=3)  # (time, batch, dim)


def tell_actions(part, linear, video, target, actions):
    latents = linear(video)
    return part(latents[:, :-1], latents[:, 1:], actions)


WAYS = {Objective: compare, Regularizer: regularize, ActionHead: tell_actions}


def cases():
    """Name -> (part, how it is used, clips of each rank); all parts that the package names."""
    found = {}
    torch.manual_seed(0)  # of parts that have weights
    for name in jepa.objectives.__all__:
        member = getattr(jepa.objectives, name)
        for base, way in WAYS.items():
            if isinstance(member, type) and issubclass(member, base) and member is not base:
                found[name] = (member(**NEEDED.get(name, {})), way, (3, 3))
    return found | {
        "DenseL1, context": (DenseL1(), compare_context, (3, 3)),
        "LatentMSE, both ways": (LatentMSE(stop_gradient=False), compare, (3, 3)),
        "SIGReg, unequal": (SIGReg(), regularize, (5, 1)),
        "VICReg, unequal": (VICReg(), regularize, (1, 5)),
        "TimeContrast, unequal": (TimeContrast(dim=8), regularize, (1, 5)),
    }


class Measured(nn.Module):
    """A linear model and the loss of what it puts out, so that DDP sees one forward."""

    def __init__(self, part, way):
        super().__init__()
        self.linear, self.part, self.way = nn.Linear(8, 8), part, way
        if isinstance(part, ActionHead):
            part.build(8, 2)

    def forward(self, *batch):
        return self.way(self.part, self.linear, *batch).total


def measure(part, way, clips, *, rank):
    """Every rank makes the joined batch and takes its own clips."""
    torch.manual_seed(1)
    model = Measured(part, way)
    batch = torch.randn(6, 3, 8), torch.randn(6, 3, 8), torch.randn(6, 2, 2)
    own = slice(None)
    if num_ranks() > 1:
        model, first = nn.parallel.DistributedDataParallel(model), sum(clips[:rank])
        own = slice(first, first + clips[rank])
    loss = model(*(values[own] for values in batch))
    loss.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters()]
    return {"loss": loss.item(), "gradient": torch.cat(gradients).tolist()}


def run(rank, port, world_size):
    torch.set_num_threads(1)
    if world_size > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", address, rank=rank, world_size=world_size)
    results = {name: measure(*case, rank=rank) for name, case in cases().items()}
    if world_size > 1:
        if rank == 0:  # the other stays away
            SIGReg().eval()(torch.zeros(4, 8), step=0)
        dist.barrier()
        dist.destroy_process_group()
    return results


@pytest.fixture(scope="module")
def ranks():
    """What each of two ranks measures."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(port), "2"],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:  # one that waits for ever for the other
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(lines.splitlines()[-1]) for lines in printed]


@pytest.fixture(scope="module")
def joined():
    """What one process measures that has the clips of both."""
    return run(0, 0, 1)


def test_gradients_of_two_ranks_are_those_of_the_joined_batch(ranks, joined):
    assert len(joined) >= 13
    for name, expected in joined.items():
        theirs = torch.tensor(expected["gradient"])
        assert theirs.abs().max() > 0, name
        for rank in ranks:
            error = (torch.tensor(rank[name]["gradient"]) - theirs).abs().max()
            assert error < 1e-5 * theirs.abs().max(), name


def test_losses_of_two_ranks_are_those_of_the_joined_batch(ranks, joined):
    for name, expected in joined.items():
        one, two = (rank[name]["loss"] for rank in ranks)
        assert (one + two) / 2 == pytest.approx(expected["loss"], rel=1e-5), name
        assert (one == two) == (name in SAME_ON_ALL), name


def test_in_evaluation_no_rank_waits_for_another(ranks):
    assert len(ranks) == 2  # rank 0 was alone with a regularizer, and both came to an end


def test_on_one_process_a_sum_over_ranks_is_the_values_themselves():
    values = torch.randn(3)
    assert num_ranks() == 1
    assert sum_over_ranks(values) is values


if __name__ == "__main__":
    print(json.dumps(run(*(int(argument) for argument in sys.argv[1:]))))
