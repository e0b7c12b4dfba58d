"""Attentive probes with a query each for verb, noun and action, all settings trained in one pass.

As in V-JEPA 2 (arXiv:2506.09985, Sec. 6): pooler with three queries, focal loss, AdamW with a
cosine schedule. Every learning rate goes with every weight decay; all probes see the same batches,
so that tokens are read once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.anticipation.features import AnticipationFeatures, Mode
from jepa.evaluation.anticipation.focal_loss import sigmoid_focal_loss
from jepa.evaluation.attentive_probe import default_heads
from jepa.evaluation.head_training import LEARNING_RATES, Sweep
from jepa.models.pooler import AttentiveProbe

TASKS = ("verb", "noun", "action")  # the order of queries, heads and label columns
WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)  # of V-JEPA 2 on EK100; elsewhere it has others
EK100_SWEEP = Sweep(LEARNING_RATES, WEIGHT_DECAYS)


class TrainedProbes(NamedTuple):
    """Probes of one mode, one for each setting.

    Attributes:
        probes: in evaluation mode, in the order of `Sweep.settings`.
        losses: (epochs, probes), mean focal loss of a row.
    """

    probes: tuple[AttentiveProbe, ...]
    losses: np.ndarray


def train_probes(
    features: AnticipationFeatures,
    mode: Mode,
    num_classes: Mapping[str, int],
    sweep: Sweep = EK100_SWEEP,
    *,
    depth: int = 4,
    num_heads: int | None = None,
) -> TrainedProbes:
    """Trains one probe for every setting, all from the same weights and on the same batches.

    Args:
        features: to train on.
        mode: which tokens the probes see.
        num_classes: of verb, noun and action.
        sweep: which probes, and how long.
        depth: blocks of the pooler, the cross-attention included.
        num_heads: attention heads of the pooler; None: as `default_heads` says.

    Raises:
        ValueError: if the mode or the number of heads does not fit the features.
    """
    dim = features.dim(mode)
    heads = default_heads(dim) if num_heads is None else num_heads
    probes = [_make_probe(dim, num_classes, depth, heads, sweep) for _ in sweep.settings]
    optimizers = [
        torch.optim.AdamW(
            probe.parameters(), lr=setting["learning_rate"], weight_decay=setting["weight_decay"]
        )
        for probe, setting in zip(probes, sweep.settings, strict=True)
    ]
    steps_per_epoch = math.ceil(len(features) / sweep.batch_size)
    losses = np.zeros((sweep.epochs, len(probes)))
    for step, rows in enumerate(_orders(len(features), sweep)):
        tokens = features.tokens(mode, rows).to(sweep.device)
        labels = torch.from_numpy(features.labels[rows]).to(sweep.device)
        share = 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * sweep.epochs)))
        for index, setting in enumerate(sweep.settings):
            optimizers[index].param_groups[0]["lr"] = share * setting["learning_rate"]
            optimizers[index].zero_grad()
            loss = focal_loss_of_heads(probes[index](tokens), labels)
            loss.backward()
            optimizers[index].step()
            losses[step // steps_per_epoch, index] += float(loss.detach()) / len(features)
    return TrainedProbes(tuple(probe.eval() for probe in probes), losses)


def focal_loss_of_heads(logits: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Returns the sum of the focal losses of verb, noun and action.

    Args:
        logits: by head, (rows, classes) each.
        labels: (rows, 3), in the order of `TASKS`.
    """
    losses = [sigmoid_focal_loss(logits[task], labels[:, i]) for i, task in enumerate(TASKS)]
    return torch.stack(losses).sum()


@torch.inference_mode()
def predict_logits(
    probe: AttentiveProbe, features: AnticipationFeatures, mode: Mode, *, batch_size: int = 256
) -> dict[str, np.ndarray]:
    """Returns logits (rows, classes) of verb, noun and action."""
    device = next(probe.parameters()).device
    parts: dict[str, list[np.ndarray]] = {task: [] for task in TASKS}
    for start in range(0, len(features), batch_size):
        rows = np.arange(start, min(start + batch_size, len(features)))
        logits = probe(features.tokens(mode, rows).to(device))
        for task in TASKS:
            parts[task].append(logits[task].float().cpu().numpy())
    return {task: np.concatenate(part) for task, part in parts.items()}


def _make_probe(
    dim: int, num_classes: Mapping[str, int], depth: int, num_heads: int, sweep: Sweep
) -> AttentiveProbe:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sweep.seed)
        probe = AttentiveProbe(
            dim=dim,
            num_classes={task: num_classes[task] for task in TASKS},
            num_heads=num_heads,
            depth=depth,
        )
    return probe.to(sweep.device).train()


def _orders(num_rows: int, sweep: Sweep) -> Iterator[np.ndarray]:
    """Yields the rows of each step."""
    for epoch in range(sweep.epochs):
        order = np.random.default_rng((sweep.seed, epoch)).permutation(num_rows)
        for start in range(0, num_rows, sweep.batch_size):
            yield np.sort(order[start : start + sweep.batch_size])  # as a memory map is read
