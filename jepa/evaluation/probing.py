"""An encoder and its baselines on the same clips, with the same probe: rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jepa.evaluation.attentive_probe import attentive_probe, save_probe
from jepa.evaluation.encoders import ProbeEncoder, load_probe_encoder
from jepa.evaluation.feature_store import FeatureStore
from jepa.evaluation.head_training import Sweep
from jepa.evaluation.labelled_clips import (
    LabelledClips,
    read_labelled_clips,
    refuse_shared_recordings,
    split_labelled_clips,
)
from jepa.evaluation.linear_probe import Pool, linear_head_probe, linear_probe
from jepa.evaluation.nearest_neighbours import nearest_neighbour_probe
from jepa.evaluation.probe_result import (
    ProbeResult,
    Splits,
    chance,
    gain,
    intervals,
    main_score,
)
from jepa.evaluation.scores import NUM_RESAMPLES, Interval, seed_interval

Kind = Literal["linear", "linear-head", "attentive", "knn"]
KINDS: tuple[Kind, ...] = ("linear", "linear-head", "attentive", "knn")
UNTRAINED = "untrained"
SHOWN_THE_SAME_LENGTH = ("pixels", "efficientnet-lite0", "timm:")  # frames one by one: any length
VALIDATION_SHARE = 0.25  # of the training recordings, where no validation split is given


@dataclass(frozen=True)
class ProbeData:
    """Which samples, and what is cut out of them.

    Args:
        data: one set, of which 60, 20 and 20 % of the recordings become the three splits; or None.
        train: to fit on, where the splits are given.
        validation: to choose on; None: a quarter of the recordings of `train`.
        test: to score on.
        num_clips: moments of each sample.
        num_views: spatial crops of each moment, whose answers are averaged.
        training_views: random crops of each training moment; 0: the same crops as in the test.
        max_rows: at most so many training samples; None: all.
        max_test_rows: at most so many samples to validate and to test on; None: all.
        split_seed: of the split.
        options: of `read_labelled_clips`.
    """

    data: str | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    num_clips: int = 1
    num_views: int = 1
    training_views: int = 0
    max_rows: int | None = None
    max_test_rows: int | None = None
    split_seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.data is None) == (self.train is None or self.test is None):
            raise ValueError(
                "name the samples by --data, which is split, or by --train and --test (and "
                "--validation)"
            )

    def read(self, encoder: ProbeEncoder) -> dict[str, LabelledClips]:
        """Returns the splits as an encoder should see them: "train", "validation", "test"."""
        options = self.options | {
            "clip_length_frames": encoder.clip_length_frames,
            "image_size": encoder.image_size,
            "num_clips": self.num_clips,
            "num_views": self.num_views,
        }
        parts = self._parts(options)
        limits = (self.max_rows, self.max_test_rows, self.max_test_rows)
        parts = {
            name: part if limit is None else part.take(_spread(len(part), limit))
            for (name, part), limit in zip(parts.items(), limits, strict=True)
        }
        if self.training_views:
            parts["train"] = parts["train"].with_random_views(self.training_views)
        return parts

    def _parts(self, options: dict[str, Any]) -> dict[str, LabelledClips]:
        if self.data is not None:
            return split_labelled_clips(
                read_labelled_clips(self.data, **options), seed=self.split_seed
            )
        assert self.train is not None and self.test is not None
        train = read_labelled_clips(self.train, **options)
        options |= {"classes": train.classes}
        test = read_labelled_clips(self.test, **options)
        if self.validation is not None:
            validation = read_labelled_clips(self.validation, **options)
            parts = {"train": train, "validation": validation, "test": test}
        else:
            shares = {"train": 1 - VALIDATION_SHARE, "validation": VALIDATION_SHARE}
            parts = split_labelled_clips(train, shares, seed=self.split_seed) | {"test": test}
        refuse_shared_recordings(parts)
        return parts


@dataclass(frozen=True)
class Probe:
    """Which probe, and how it is fitted.

    Args:
        kind: see `KINDS`.
        pool: of the linear probe, see `linear_probe`.
        sweep: of the probes that are trained; None: their own.
        depth: blocks of the attentive probe.
        device: where encoders and probes compute.
    """

    kind: Kind = "linear"
    pool: Pool = "mean"
    sweep: Sweep | None = None
    depth: int = 4
    device: str = "cpu"

    def fit(self, splits: Splits, *, seed: int) -> ProbeResult:
        """Returns the answers for the test split."""
        sweep = None
        if self.sweep is not None:
            sweep = Sweep(**{**asdict(self.sweep), "seed": seed, "device": self.device})
        if self.kind == "attentive":
            default = Sweep(seed=seed, device=self.device)
            return attentive_probe(splits, sweep=sweep or default, depth=self.depth)
        if self.kind == "linear-head":
            return linear_head_probe(splits, sweep=sweep)
        if self.kind == "knn":
            return nearest_neighbour_probe(splits, device=self.device)
        return linear_probe(splits, pool=self.pool)


@dataclass(frozen=True)
class Row:
    """One encoder's line of the table.

    Attributes:
        name: of the encoder.
        scores: every score with its interval over the test recordings, of the first seed.
        over_seeds: the main score over seeds, if there are several and they differ.
        gain: of the encoder in question over this one, on the same recordings; None in its own row.
        best_on_validation: of the best setting, on the data that chose it: what the released code
            reports.
        chosen: the setting that was chosen.
        tried: all settings.
    """

    name: str
    scores: dict[str, Interval]
    over_seeds: Interval | None
    gain: Interval | None
    best_on_validation: float | None
    chosen: dict[str, float]
    tried: list[dict[str, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        plain = asdict(self)
        plain["scores"] = {name: score._asdict() for name, score in self.scores.items()}
        for name in ("over_seeds", "gain"):
            value = getattr(self, name)
            plain[name] = None if value is None else value._asdict()
        return plain


def probe_table(
    encoder: str,
    data: ProbeData,
    probe: Probe,
    *,
    baselines: Sequence[str] = (UNTRAINED,),
    layers: Sequence[int] | None = None,
    frame_by_frame: bool | None = None,
    clip_length_frames: int | None = None,
    cache: str | Path | None = None,
    seeds: Sequence[int] = (0,),
    num_resamples: int = NUM_RESAMPLES,
    save: str | Path | None = None,
    build_options: dict[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Row]:
    """Probes an encoder, its baselines and chance; the encoder's row comes first.

    Args:
        encoder: see `load_probe_encoder`.
        data: the samples.
        probe: which probe.
        baselines: other encoders; "untrained" is this encoder with fresh weights.
        layers: blocks of this encoder, and of its untrained twin; None: its output.
        frame_by_frame: see `load_probe_encoder`.
        clip_length_frames: see `load_probe_encoder`.
        cache: folder of features; None: the user's.
        seeds: of probes, and of the weights of the untrained.
        num_resamples: of the intervals.
        save: folder that gets the attentive probe of the first seed.
        build_options: of `FeatureStore.build`.
        say: is told what is done, a line at a time.

    Raises:
        ValueError: if settings do not fit one another.
    """
    shape: dict[str, Any] = {
        "layers": layers,
        "frame_by_frame": frame_by_frame,
        "clip_length_frames": clip_length_frames,
    }
    ours = load_probe_encoder(encoder, **shape, seed=seeds[0])
    cached = _Features(data, cache, probe.device, build_options or {}, say)
    splits, results = _fitted(encoder, shape, cached, probe, seeds)
    first = results[0]
    if save is not None:
        save_probe(first.probe, save, train=splits.train, encoder=ours.fingerprint)
    rows = [_row(encoder, results, first, splits, num_resamples)]
    for name in baselines:
        source = f"{UNTRAINED}:{encoder}" if name == UNTRAINED else name
        options = shape if name == UNTRAINED else {"clip_length_frames": _length(source, ours)}
        others, results = _fitted(source, options, cached, probe, seeds)
        rows.append(_row(name, results, first, others, num_resamples))
    return [*rows, _chance_row(first, splits, num_resamples)]


def _fitted(
    source: str, options: dict[str, Any], cached: _Features, probe: Probe, seeds: Sequence[int]
) -> tuple[Splits, list[ProbeResult]]:
    """Returns the features of the last seed, and a result for each; see `probe_table`."""
    splits = cached.of(load_probe_encoder(source, **options, seed=seeds[0]))
    results = [probe.fit(splits, seed=seeds[0])]
    for seed in seeds[1:]:
        if source.startswith(UNTRAINED):  # other weights, other features
            splits = cached.of(load_probe_encoder(source, **options, seed=seed))
        results.append(probe.fit(splits, seed=seed))
    return splits, results


@dataclass(frozen=True)
class _Features:
    """Makes features of the splits, or finds them in the cache."""

    data: ProbeData
    cache: str | Path | None
    device: str
    options: dict[str, Any]
    say: Callable[[str], None] | None

    def of(self, encoder: ProbeEncoder) -> Splits:
        """Returns the splits of one encoder."""
        encoder = encoder.to(self.device)
        stores = [
            FeatureStore.build(self.cache, encoder, part, say=self.say, **self.options)
            for part in self.data.read(encoder).values()
        ]
        return Splits(*(store.as_set() for store in stores))


def _length(source: str, ours: ProbeEncoder) -> int | None:
    return ours.clip_length_frames if source.startswith(SHOWN_THE_SAME_LENGTH) else None


def _row(
    name: str, results: list[ProbeResult], ours: ProbeResult, splits: Splits, num_resamples: int
) -> Row:
    one, test = results[0], splits.test
    scores = [main_score(result.predicted, test) for result in results]
    return Row(
        name=name,
        scores=intervals(one.predicted, test, num_resamples=num_resamples),
        over_seeds=seed_interval(scores) if len(set(scores)) > 1 else None,
        gain=None
        if one is ours
        else gain(ours.predicted, one.predicted, test, num_resamples=num_resamples),
        best_on_validation=one.validation_score,
        chosen=dict(one.chosen),
        tried=one.tried,
    )


def _chance_row(ours: ProbeResult, splits: Splits, num_resamples: int) -> Row:
    answers, test = chance(splits.train, splits.test), splits.test
    return Row(
        name="chance",
        scores=intervals(answers, test, num_resamples=num_resamples),
        over_seeds=None,
        gain=gain(ours.predicted, answers, test, num_resamples=num_resamples),
        best_on_validation=None,
        chosen={},
    )


def _spread(length: int, limit: int) -> np.ndarray:
    """At most so many numbers below length, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(limit, length)).astype(np.int64))
