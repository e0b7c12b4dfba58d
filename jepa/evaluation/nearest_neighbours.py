"""What do the nearest neighbours say? A probe without training.

As in DINO (arXiv:2104.14294, Sec. 4.1; after arXiv:1805.01978): the k training samples of highest
cosine similarity vote with weight exp(similarity / temperature). How many is chosen on the
validation split. Numbers are averaged with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.linear_probe import pooled
from jepa.evaluation.probe_result import ProbeResult, Splits, main_score, refuse_unlike

NEIGHBOURS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07
SIMILARITIES_AT_ONCE = 2**24  # 64 MB


class Neighbours(NamedTuple):
    """The training rows nearest to each query, nearest first.

    Attributes:
        similarity: (queries, neighbours), cosine, in [-1, 1].
        index: (queries, neighbours), of the training rows.
    """

    similarity: Tensor
    index: Tensor


def nearest_neighbour_probe(
    splits: Splits,
    *,
    neighbours: Sequence[int] = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    device: str = "cpu",
) -> ProbeResult:
    """Lets the nearest training samples answer; how many is chosen on validation.

    A sample is the mean over its tokens, clips and views; layers lie side by side.

    Args:
        splits: features.
        neighbours: how many to try; those above the number of training samples are left out.
        temperature: of the votes' weights, above 0; the smaller, the more the nearest counts.
        device: where similarities are computed.

    Raises:
        ValueError: if a setting is out of range, or the splits do not fit one another.
    """
    refuse_unlike(splits)
    counts = sorted({count for count in neighbours if 1 <= count <= splits.train.num_samples})
    if not counts or min(neighbours) < 1:
        raise ValueError(
            f"neighbours must be from 1 to the {splits.train.num_samples} training samples, got "
            f"{list(neighbours)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    bank, *queries = (_directions(data).to(device) for data in splits)
    values = _votes(splits.train).to(device)
    on_validation, on_test = (nearest(query, bank, max(counts)) for query in queries)
    tried = [
        {
            "neighbours": count,
            "validation_score": main_score(
                _answer(on_validation, values, count, temperature), splits.validation
            ),
        }
        for count in counts
    ]
    best = int(np.argmax([row["validation_score"] for row in tried]))
    answer = _answer(on_test, values, counts[best], temperature)
    return ProbeResult(answer, tried[best]["validation_score"], {"neighbours": counts[best]}, tried)


def nearest(queries: Tensor, bank: Tensor, count: int) -> Neighbours:
    """Returns the rows of the bank that are nearest to each query, exactly.

    Never holds more than `SIMILARITIES_AT_ONCE` similarities, or one query's.

    Args:
        queries: (queries, dim), of length 1.
        bank: (rows, dim), of length 1.
        count: neighbours of each, at most as many as rows.
    """
    size = max(1, SIMILARITIES_AT_ONCE // len(bank))
    parts = [(part @ bank.T).topk(count, dim=1) for part in queries.split(size)]
    return Neighbours(
        torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
    )


def _directions(data: FeatureSet) -> Tensor:
    """Mean features of length 1: (samples, dim)."""
    return F.normalize(torch.from_numpy(pooled(data, "mean").mean(1)), dim=1)


def _votes(train: FeatureSet) -> Tensor:
    """What each training sample says: (samples, classes), one-hot; or (samples, targets)."""
    labels = torch.from_numpy(np.ascontiguousarray(train.labels))
    if train.classes is None:
        return labels.float()
    return F.one_hot(labels.long(), len(train.classes)).float()


def _answer(found: Neighbours, votes: Tensor, count: int, temperature: float) -> np.ndarray:
    """Returns the weighted mean of the votes of the nearest `count`: (queries, outputs)."""
    weights = (found.similarity[:, :count] / temperature).softmax(1)  # (queries, count)
    answers = [
        (part.unsqueeze(-1) * votes[index[:, :count]]).sum(1)  # (part, outputs)
        for part, index in zip(weights.split(256), found.index.split(256), strict=True)
    ]
    return torch.cat(answers).cpu().numpy()
