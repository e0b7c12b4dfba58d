"""Do all processes of a training plan the same batches? Asked once per loader, before it begins.

Each rank computes the plan by itself, from its own copy of the data and of the settings. Where
these differ (an older copy on one machine, another config), ranks would take unequal numbers of
steps and wait for each other for ever, or train on a part twice and on another never.
"""

from __future__ import annotations

import copy
import hashlib

import torch.distributed as dist

from data_pipelines.plan import EvaluationBatchSampler, SteppedBatchSampler

NUM_BATCHES = 4  # of the joined batches, which are compared slot by slot


def refuse_different_plans(
    sampler: SteppedBatchSampler | EvaluationBatchSampler, data_fingerprint: str
) -> None:
    """Compares what this rank is about to read with the other ranks; all ranks must call it.

    Args:
        sampler: of this rank.
        data_fingerprint: of the data and of what is cut out of them.

    Raises:
        ValueError: on every rank, if any two differ.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    line, batches = _steps(sampler), _first_batches(sampler)
    digest = hashlib.sha256(f"{line} {data_fingerprint} {batches}".encode()).hexdigest()
    own = f"data {data_fingerprint or 'unnamed'}, {line}", digest
    every: list[tuple[str, str]] = [own] * dist.get_world_size()
    dist.all_gather_object(every, own)
    others = [rank for rank, plan in enumerate(every) if plan != every[0]]
    if others:
        first, other = every[0][0], every[others[0]][0]
        order = "; the order of the samples differs" if first == other else ""
        raise ValueError(
            f"{len(others)} of {len(every)} ranks plan other batches than rank 0 ({first}): rank "
            f"{others[0]} ({other}){order}; all need the same shards, settings and checkpoint: is "
            "a copy on one machine another one?"
        )


def _steps(sampler: SteppedBatchSampler | EvaluationBatchSampler) -> str:
    first = sampler.first_step() if isinstance(sampler, SteppedBatchSampler) else 0
    return f"{len(sampler)} steps from step {first} of {sampler.world_size} ranks"


def _first_batches(sampler: SteppedBatchSampler | EvaluationBatchSampler) -> list[object]:
    """Returns what rank 0 gets in the next steps, as this rank would compute it."""
    of_rank_0 = copy.copy(sampler)
    of_rank_0.rank = 0
    return [batch for _, batch in zip(range(NUM_BATCHES), of_rank_0, strict=False)]
