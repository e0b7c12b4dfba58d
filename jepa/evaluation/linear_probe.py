"""Linear probes: what can be read off frozen features with one matrix.

For data that fit in memory, ridge and logistic regression on the mean token or on all tokens side
by side, their penalty chosen on the validation split. For larger data a linear layer on the mean
token, trained batch by batch off the disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.head_training import Sweep, swept_probe
from jepa.evaluation.probe_result import ProbeResult, Splits, main_score, refuse_unlike

Pool = Literal["mean", "all"]
PENALTIES = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
LEARNING_RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)  # of one layer: higher than those of a transformer
WEIGHT_DECAYS = (0.0, 0.01)
ROWS_AT_ONCE = 1024
MAX_ITERATIONS = 300


def linear_probe(
    splits: Splits, *, pool: Pool = "mean", penalties: Sequence[float] = PENALTIES
) -> ProbeResult:
    """Fits ridge (numbers) or logistic regression (classes); the penalty is chosen on validation.

    Features are standardised. Every view of a training sample is a row; answers are averaged over
    the views of a sample.

    Args:
        splits: features.
        pool: "mean" of the tokens and clips, with layers side by side, which must say by itself
            what is where; "all" tokens, clips and layers side by side, where a place is a
            coordinate: random features do well.
        penalties: squared weights count so much against the squared error (numbers); classes are
            fitted with C = 1 / penalty.

    Raises:
        ValueError: if the splits do not fit one another.
    """
    refuse_unlike(splits)
    x = pooled(splits.train, pool)  # (samples, views, dim)
    y = np.repeat(splits.train.labels, x.shape[1], axis=0)
    of_others = [pooled(data, pool) for data in (splits.validation, splits.test)]
    is_class = splits.train.classes is not None
    tried, answers = [], []
    for penalty in penalties:
        answer = _fitted(x.reshape(-1, x.shape[-1]), y, penalty, splits.train)
        on_validation, on_test = (answer(features) for features in of_others)
        tried.append({"penalty": penalty, "validation_score": main_score(on_validation, splits[1])})
        answers.append(on_test)
    best = int(np.argmax([row["validation_score"] for row in tried]))
    assert is_class or answers[best].shape == splits.test.labels.shape
    score = tried[best]["validation_score"]
    return ProbeResult(answers[best], score, {"penalty": penalties[best]}, tried)


def linear_head_probe(splits: Splits, *, sweep: Sweep | None = None) -> ProbeResult:
    """Trains one linear layer on the mean token, batch by batch: for data larger than memory.

    A batch norm without weights comes before it, as in the linear protocol of MAE
    (arXiv:2111.06377, App. A.1), so that learning rates mean the same for every encoder.

    Args:
        splits: features; layers are averaged as tokens are.
        sweep: which heads and how long; None: `LEARNING_RATES` x `WEIGHT_DECAYS`, 20 epochs.
    """
    train = splits.train
    num_outputs = train.labels.shape[1] if train.classes is None else len(train.classes)
    return swept_probe(
        lambda: LinearHead(train.features.shape[-1], num_outputs),
        splits,
        sweep or Sweep(learning_rates=LEARNING_RATES, weight_decays=WEIGHT_DECAYS),
    )


class LinearHead(nn.Module):
    """The mean token, standardised by the batch, through one layer that starts at zero."""

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False, eps=1e-6)
        self.linear = nn.Linear(dim, num_outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (batch, outputs) of tokens (batch, tokens, dim)."""
        pooled_tokens = tokens.mean(1)
        if self.training and len(pooled_tokens) == 1:  # one row has no spread to learn from
            return self.linear(self.norm.eval()(pooled_tokens))
        return self.linear(self.norm.train(self.training)(pooled_tokens))


def pooled(data: FeatureSet, pool: Pool) -> np.ndarray:
    """Returns one vector a sample and view: (samples, views, dim), float32.

    Reads `ROWS_AT_ONCE` rows at a time.

    Args:
        data: features.
        pool: see `linear_probe`.

    Raises:
        ValueError: if pool is another word.
    """
    if pool not in ("mean", "all"):
        raise ValueError(f"pool must be 'mean' or 'all', got {pool!r}")
    table = data.table  # (samples, views, clips)
    parts = []
    for start in range(0, len(data.features), ROWS_AT_ONCE):
        rows = np.asarray(data.features[start : start + ROWS_AT_ONCE], np.float32)
        rows = rows.mean(2) if pool == "mean" else rows  # (rows, layers, dim)
        parts.append(rows.reshape(len(rows), -1))
    vectors = np.concatenate(parts)[table]  # (samples, views, clips, dim)
    return vectors.mean(2) if pool == "mean" else vectors.reshape(*table.shape[:2], -1)


def _fitted(
    x: np.ndarray, y: np.ndarray, penalty: float, train: FeatureSet
) -> Callable[[np.ndarray], np.ndarray]:
    """Fits on rows (rows, dim); returns what answers for (samples, views, dim)."""
    if train.classes is None:
        model = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x.astype(np.float64), y)
        return lambda features: _of_views(model.predict, features, y.shape[1])
    logistic = LogisticRegression(C=1 / penalty, max_iter=MAX_ITERATIONS, tol=1e-3)
    model = make_pipeline(StandardScaler(), logistic)
    with warnings.catch_warnings():  # one penalty of several; validation tells if it will do
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    num_classes = len(train.classes)
    return lambda features: _of_classes(
        _of_views(model.predict_proba, features, len(model.classes_)), model.classes_, num_classes
    )


def _of_views(predict: Any, features: np.ndarray, width: int) -> np.ndarray:  # noqa: ANN401
    """Returns the mean answer over views (samples, width) for (samples, views, dim)."""
    samples, views, dim = features.shape
    answers = np.asarray(predict(features.reshape(-1, dim).astype(np.float64)))
    return answers.reshape(samples, views, width).mean(1)


def _of_classes(found: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Puts the columns of the classes that were trained on in their places."""
    answers = np.zeros((len(found), num_classes))
    answers[:, classes] = found
    return answers
