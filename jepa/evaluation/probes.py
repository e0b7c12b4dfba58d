"""A quick look: what a linear probe reads off frozen frames or clips, and off an untrained encoder.

In memory, without a cache or a validation split; `jepa.evaluation.linear_probe` has these.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from jepa.checkpoints.native import load_encoder, untrained_encoder
from jepa.models import VideoEncoder
from jepa.models.frame_encoder import FrameEncoder

DATAMODULES = "data_pipelines.datamodules"  # by name: `jepa` does not import the pipelines
RIDGE_PENALTIES = (1e-1, 1.0, 1e1, 1e2, 1e3)


class Features(NamedTuple):
    """Cached features of one data set, and what should be read off them.

    Attributes:
        tokens: (rows, tokens, dim).
        targets: (rows, targets) numbers to regress, or (rows,) class names.
    """

    tokens: np.ndarray
    targets: np.ndarray

    @property
    def pooled(self) -> np.ndarray:
        """Mean over tokens: (rows, dim)."""
        return self.tokens.mean(1)

    @property
    def flat(self) -> np.ndarray:
        """All tokens side by side: (rows, tokens * dim)."""
        return self.tokens.reshape(len(self.tokens), -1)


class ProbeScore(NamedTuple):
    """How well a linear model on frozen features does on held-out data.

    Attributes:
        metric: "R2", averaged over the targets, or "top-1".
        pooled: score from the mean token, which must say by itself what is where.
        all_tokens: score from all tokens, where a place is a coordinate: random features do well.
        chance: score of always answering the training mean or the most frequent class.
    """

    metric: str
    pooled: float
    all_tokens: float
    chance: float


def probe_against_untrained(
    encoder: str | Path,
    shards: str,
    test_shards: str,
    *,
    num_rows: int = 3000,
    num_test_rows: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Probes an encoder and its untrained twin on the same rows.

    Args:
        encoder: folder of the trained encoder, or of the run that made it.
        shards: to fit the probes on.
        test_shards: to score them on.
        num_rows: frames or clips to fit on.
        num_test_rows: frames or clips to score on.
        seed: of the untrained weights.

    Returns:
        {"trained": {...}, "untrained": {...}} with the fields of `ProbeScore`.
    """
    models = {"trained": load_encoder(encoder), "untrained": untrained_encoder(encoder, seed=seed)}
    return {
        name: linear_probe(
            _features(model, shards, num_rows), _features(model, test_shards, num_test_rows)
        )._asdict()
        for name, model in models.items()
    }


def score_table(scores: dict[str, dict[str, Any]]) -> str:
    """Returns a table for the terminal."""
    metric, chance = scores["trained"]["metric"], scores["trained"]["chance"]
    lines = [f"{metric:<12}{'mean token':>12}{'all tokens':>12}"]
    for name, row in scores.items():
        lines.append(f"{name:<12}{row['pooled']:>12.3f}{row['all_tokens']:>12.3f}")
    lines.append(f"{'chance':<12}{chance:>12.3f}{chance:>12.3f}")
    return "\n".join(lines)


def linear_probe(train: Features, test: Features) -> ProbeScore:
    """Fits ridge or logistic regression on `train` and scores it on `test`.

    The ridge penalty is chosen by leave-one-out on the training rows.

    Raises:
        ValueError: if there are too few rows or classes.
    """
    if min(len(train.tokens), len(test.tokens)) < 2:
        raise ValueError(
            f"a probe needs at least 2 rows to train and to test on, got {len(train.tokens)} and "
            f"{len(test.tokens)}"
        )
    if train.targets.dtype.kind in "US":
        return _classify(train, test)
    return ProbeScore(
        "R2",
        _ridge_score(train.pooled, train.targets, test.pooled, test.targets),
        _ridge_score(train.flat, train.targets, test.flat, test.targets),
        _r2(np.broadcast_to(train.targets.mean(0), test.targets.shape), test.targets),
    )


def frame_features(encoder: FrameEncoder, batches: Iterator[Any], num_rows: int) -> Features:
    """Encodes single frames of trajectories; the target is the state.

    Args:
        encoder: frozen.
        batches: of `TrajectoryBatch`.
        num_rows: frames wanted; fewer come if the data end.
    """

    def rows(batch: Any) -> tuple[Tensor, np.ndarray]:  # noqa: ANN401
        tokens = encoder.encode_frames(batch.frames).flatten(0, 1)
        return tokens, batch.states.flatten(0, 1).numpy()

    return _collect(batches, rows, num_rows)


def clip_features(
    encoder: VideoEncoder, batches: Iterator[Any], num_rows: int, *, labels: dict[str, str]
) -> Features:
    """Encodes clips; the target is the label of the video.

    Args:
        encoder: frozen.
        batches: of `ClipBatch`.
        num_rows: clips wanted; fewer come if the data end.
        labels: class name of every sample key.
    """

    def rows(batch: Any) -> tuple[Tensor, np.ndarray]:  # noqa: ANN401
        tokens = encoder(batch.video)
        return tokens, np.array([labels[key] for key in batch.keys])

    return _collect(batches, rows, num_rows)


@torch.inference_mode()
def _collect(
    batches: Iterator[Any],
    rows: Callable[[Any], tuple[Tensor, np.ndarray]],
    num_rows: int,
) -> Features:
    tokens: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for batch in batches:
        batch_tokens, batch_targets = rows(batch)
        tokens.append(batch_tokens.numpy())
        targets.append(batch_targets)
        if sum(map(len, tokens)) >= num_rows:
            break
    if not tokens:
        raise ValueError("there are no samples to probe on")
    return Features(np.concatenate(tokens)[:num_rows], np.concatenate(targets)[:num_rows])


def _ridge_score(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=RIDGE_PENALTIES))
    probe.fit(x.astype(np.float64), y)
    return _r2(probe.predict(x_test.astype(np.float64)), y_test)


def _r2(predicted: np.ndarray, true: np.ndarray) -> float:
    """1 - residual / variance, averaged over the columns."""
    predicted = predicted.reshape(true.shape)  # scikit-learn drops the axis of a single target
    residual = ((true - predicted) ** 2).sum(0)
    return float((1 - residual / ((true - true.mean(0)) ** 2).sum(0)).mean())


def _classify(train: Features, test: Features) -> ProbeScore:
    classes, counts = np.unique(train.targets, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"a probe needs at least 2 classes, got {classes.tolist()}")

    def score(x: np.ndarray, x_test: np.ndarray) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return float(probe.fit(x, train.targets).score(x_test, test.targets))

    chance = float((test.targets == classes[counts.argmax()]).mean())
    return ProbeScore(
        "top-1", score(train.pooled, test.pooled), score(train.flat, test.flat), chance
    )


def _features(encoder: Any, shards: str, num_rows: int) -> Any:  # noqa: ANN401
    """Encodes rows of one set of shards, whatever these hold."""
    modules = importlib.import_module(DATAMODULES)
    image_size = encoder.grid[1] * encoder.tubelet[1]
    clip_length = encoder.grid[0] * encoder.tubelet[0]
    index = importlib.import_module("data_pipelines.shard_index").ShardIndex.load(shards)
    batch = min(16, index.num_samples)
    if index.specification is not None:
        data = modules.TrajectoryDataModule(
            shards, clip_length, image_size=image_size, batch_size=batch, steps_per_epoch=num_rows
        )
        return frame_features(encoder, iter(data.train_dataloader()), num_rows)
    labels = {sample.key: sample.label for sample in index.samples}
    if not all(labels.values()):
        raise ValueError(
            f"{shards} holds neither states nor labels; pack videos from one folder per class"
        )
    data = modules.ClipDataModule(
        shards,
        clip_length,
        image_size=image_size,
        batch_size=batch,
        crop_scale=(1.0, 1.0),
        crop_aspect_ratio=(1.0, 1.0),
        horizontal_flip=False,
        steps_per_epoch=num_rows,
    )
    return clip_features(encoder, iter(data.train_dataloader()), num_rows, labels=labels)
