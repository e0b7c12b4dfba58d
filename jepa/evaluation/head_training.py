"""Training many small heads on cached features in one pass over them.

Every head sees the same batches in the same order from the same first weights, with its own
learning rate and weight decay: what differs at the end is due to these. A head is trained exactly
as if it were alone. The heads take turns on each batch, so the memory of activations is that of
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.probe_result import ProbeResult, Splits, main_score, refuse_unlike

# V-JEPA 2 (arXiv:2506.09985, App. D): 20 heads, each one of these pairs.
LEARNING_RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
WEIGHT_DECAYS = (0.01, 0.1, 0.4, 0.8)

MakeHead = Callable[[], nn.Module]


@dataclass(frozen=True)
class Sweep:
    """Which heads are trained, and how long.

    Args:
        learning_rates: peak rates of AdamW; each falls along half a cosine to 0, without warm-up.
        weight_decays: of all parameters alike. A head is trained for each pair.
        epochs: passes over the training split.
        batch_size: samples of a step.
        seed: of the first weights, the order and the drawn views.
        device: where heads are trained, as torch names it.

    Raises:
        ValueError: if a number is out of range.
    """

    learning_rates: Sequence[float] = LEARNING_RATES
    weight_decays: Sequence[float] = WEIGHT_DECAYS
    epochs: int = 20
    batch_size: int = 128
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.learning_rates or not self.weight_decays:
            raise ValueError("a sweep needs at least one learning rate and one weight decay")
        if min(self.learning_rates) <= 0 or min(self.weight_decays) < 0:
            raise ValueError(
                f"learning rates must be above 0 and weight decays at least 0, got "
                f"{list(self.learning_rates)} and {list(self.weight_decays)}"
            )
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}"
            )

    @property
    def settings(self) -> list[dict[str, float]]:
        """Returns the settings of each head."""
        return [
            {"learning_rate": learning_rate, "weight_decay": weight_decay}
            for learning_rate in self.learning_rates
            for weight_decay in self.weight_decays
        ]


def swept_probe(make_head: MakeHead, splits: Splits, sweep: Sweep) -> ProbeResult:
    """Trains a head for each setting, keeps the best on validation, and lets it answer the test.

    Args:
        make_head: returns a head from tokens (batch, tokens, dim) to logits (batch, classes), or
            to numbers (batch, targets), which are standardised; drawn from torch's generator.
        splits: features.
        sweep: which heads, and how long.

    Raises:
        ValueError: if the splits do not fit one another.
    """
    refuse_unlike(splits)
    heads = train_heads(make_head, splits.train, sweep)
    answers = predict(heads, splits.validation, sweep, train=splits.train)
    scores = [main_score(answer, splits.validation) for answer in answers]
    best = int(np.argmax(scores))
    test = predict([heads[best]], splits.test, sweep, train=splits.train)[0]
    tried = [
        setting | {"validation_score": score}
        for setting, score in zip(sweep.settings, scores, strict=True)
    ]
    return ProbeResult(test, scores[best], sweep.settings[best], tried, heads[best])


def train_heads(make_head: MakeHead, train: FeatureSet, sweep: Sweep) -> list[nn.Module]:
    """Returns trained heads, in evaluation mode, one for each of the sweep's settings."""
    heads = [_drawn(make_head, sweep.seed).to(sweep.device) for _ in sweep.settings]
    optimizers = [
        torch.optim.AdamW(
            head.parameters(), lr=setting["learning_rate"], weight_decay=setting["weight_decay"]
        )
        for head, setting in zip(heads, sweep.settings, strict=True)
    ]
    wanted = _Wanted(train, sweep.device)
    num_steps = sweep.epochs * math.ceil(train.num_samples / sweep.batch_size)
    for step, samples in enumerate(_orders(train.num_samples, sweep)):
        tokens = _tokens(train, samples, _drawn_views(train, step, len(samples), sweep.seed))
        tokens, target = tokens.to(sweep.device), wanted.of(samples)
        share = 0.5 * (1 + math.cos(math.pi * step / num_steps))
        for head, optimizer, setting in zip(heads, optimizers, sweep.settings, strict=True):
            optimizer.param_groups[0]["lr"] = share * setting["learning_rate"]
            optimizer.zero_grad()
            wanted.loss(head(tokens), target).backward()
            optimizer.step()
    return [head.eval() for head in heads]


@torch.inference_mode()
def predict(
    heads: Sequence[nn.Module], data: FeatureSet, sweep: Sweep, *, train: FeatureSet
) -> list[np.ndarray]:
    """Returns each head's answers, averaged over the views of a sample.

    Args:
        heads: trained.
        data: to answer for.
        sweep: whose batch size and device are taken.
        train: what the heads were trained on: numbers were standardised with its labels.

    Returns:
        (samples, classes) probabilities, or (samples, targets) numbers, of each head.
    """
    wanted, table = _Wanted(train, sweep.device), data.table
    answers: list[list[np.ndarray]] = [[] for _ in heads]
    for samples in _parts(np.arange(data.num_samples), sweep.batch_size):
        views = [
            _tokens(data, samples, np.full(len(samples), view)).to(sweep.device)
            for view in range(table.shape[1])
        ]
        for head, answer in zip(heads, answers, strict=True):
            each = torch.stack([wanted.answer(head(tokens)) for tokens in views])
            answer.append(each.mean(0).cpu().numpy())
    return [np.concatenate(answer) for answer in answers]


class _Wanted:
    """What heads should answer: a class, or standardised numbers."""

    def __init__(self, train: FeatureSet, device: str) -> None:
        self.is_class, self.device, self.labels = train.classes is not None, device, train.labels
        if not self.is_class:
            mean, std = train.labels.mean(0), train.labels.std(0)
            self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
            self.std = torch.tensor(np.where(std > 0, std, 1.0), dtype=torch.float32, device=device)

    def of(self, samples: np.ndarray) -> Tensor:
        """Returns the targets of some training samples."""
        labels = torch.from_numpy(np.ascontiguousarray(self.labels[samples])).to(self.device)
        return labels.long() if self.is_class else (labels.float() - self.mean) / self.std

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, or the squared error of standardised numbers."""
        return F.cross_entropy(output, target) if self.is_class else F.mse_loss(output, target)

    def answer(self, output: Tensor) -> Tensor:
        """Returns probabilities, or numbers in their own units."""
        return output.softmax(-1) if self.is_class else output * self.std + self.mean


def _drawn(make_head: MakeHead, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_head().train()


def _orders(num_samples: int, sweep: Sweep) -> Iterator[np.ndarray]:
    """Yields the samples of each step."""
    for epoch in range(sweep.epochs):
        order = np.random.default_rng((sweep.seed, epoch)).permutation(num_samples)
        yield from _parts(order, sweep.batch_size)


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _drawn_views(data: FeatureSet, step: int, num_samples: int, seed: int) -> np.ndarray:
    """One of a sample's views for this step: with several it is the augmentation."""
    generator = np.random.default_rng((seed, step, 1))
    return generator.integers(0, data.table.shape[1], num_samples)


def _tokens(data: FeatureSet, samples: np.ndarray, views: np.ndarray) -> Tensor:
    """Reads the tokens of all clips and layers of one view a sample: (samples, tokens, dim)."""
    rows = data.table[samples, views]  # (samples, clips)
    features = np.asarray(data.features[rows], np.float32)
    return torch.from_numpy(features).flatten(1, 3)
