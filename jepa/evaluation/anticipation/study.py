"""The rows of the table: what each kind of features anticipates, beside baselines."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jepa.evaluation.anticipation.data import PARTS, AnticipationData
from jepa.evaluation.anticipation.features import AnticipationFeatures, Mode, encode_clips
from jepa.evaluation.anticipation.future_tokens import Anticipator
from jepa.evaluation.anticipation.heads import (
    EK100_SWEEP,
    TASKS,
    predict_logits,
    train_probes,
)
from jepa.evaluation.anticipation.recall import (
    TaskScore,
    always_the_most_frequent,
    certain,
    choose_probe,
    official_maxima,
    recall_of,
    score,
)
from jepa.evaluation.head_training import Sweep

Say = Callable[[str], None]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: what it is.
        scores: by task, on the test videos.
        details: how the probe was chosen, and what the official way of reporting would say.
    """

    name: str
    scores: dict[str, TaskScore]
    details: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What all rows share.

    Attributes:
        data: the clips.
        sweep: which probes, how long, and where they compute.
        depth: blocks of the pooler.
        num_heads: attention heads of the pooler; None: as its width allows.
        batch_size: clips encoded at once.
        cache: where features are kept on the disk; None: in memory.
        num_resamples: of the intervals.
        say: takes a line on what happens.
    """

    data: AnticipationData
    sweep: Sweep = EK100_SWEEP
    depth: int = 4
    num_heads: int | None = None
    batch_size: int = 16
    cache: Path | None = None
    num_resamples: int = 1000
    say: Say = print

    def rows(
        self, name: str, anticipator: Anticipator, modes: Sequence[Mode], *, still: bool = False
    ) -> list[Row]:
        """Encodes all parts once, and probes every mode.

        Args:
            name: of the features; the rows add the mode.
            anticipator: encoder and predictor.
            modes: which tokens the probes see, a row each.
            still: show the last frame only.
        """
        features = {part: self._encode(part, name, anticipator, still=still) for part in PARTS}
        return [self._probe(f"{name}, {mode}", features, mode) for mode in modes]

    def chance_row(self) -> Row:
        """Returns what always naming the most frequent classes scores."""
        labels, videos = self._labels_and_videos("test")
        logits = always_the_most_frequent(
            self._labels_and_videos("train")[0], self.data.num_classes, len(labels)
        )
        return Row("chance: the most frequent", self._score(logits, labels, videos), {})

    def oracle_row(self, tracks: Path) -> Row:
        """Returns what the ball's true positions say of the synthetic videos, seen as far."""
        module = importlib.import_module("data_pipelines.gate_actions")
        labels, videos = self._labels_and_videos("test")
        guesses = module.anticipate_clips(tracks, self._decoded("test"))
        classes = self.data.classes
        lists = (classes.verbs, classes.nouns, classes.actions)
        named = [
            [values.index(guess) if guess in values else -1 for values, guess in triple]
            for triple in (zip(lists, (*pair, pair), strict=True) for pair in guesses)
        ]
        logits = certain(np.array(named), self.data.num_classes)
        return Row("oracle: true positions", self._score(logits, labels, videos), {})

    def _encode(
        self, part: str, name: str, anticipator: Anticipator, *, still: bool
    ) -> AnticipationFeatures:
        clips = self.data.clips[part]
        folder = None if self.cache is None else self.cache / name.replace(" ", "_") / part
        features = encode_clips(
            anticipator,
            clips,
            self.data.labels[part],
            num_clips=len(clips.clips),
            batch_size=self.batch_size,
            last_frame_only=still,
            folder=folder,
        )
        self.say(f"{name}: {len(features)} clips of {part} encoded")
        return features

    def _probe(self, name: str, features: Mapping[str, AnticipationFeatures], mode: Mode) -> Row:
        trained = train_probes(
            features["train"],
            mode,
            self.data.num_classes,
            self.sweep,
            depth=self.depth,
            num_heads=self.num_heads,
        )
        held = features["validation"]
        on_validation = [predict_logits(probe, held, mode) for probe in trained.probes]
        best = choose_probe(on_validation, held.labels)
        test = features["test"]
        logits = predict_logits(trained.probes[best], test, mode)
        details = {
            **self.sweep.settings[best],
            "last_losses": trained.losses[-1].round(4).tolist(),
            "validation_recall_of_actions": [
                round(recall_of(found, held.labels, "action"), 4) for found in on_validation
            ],
            "validation_recall": {
                task: recall_of(on_validation[best], held.labels, task) for task in TASKS
            },
            "official_maximum_of_each_on_validation": official_maxima(on_validation, held.labels),
        }
        row = Row(name, self._score(logits, test.labels, test.videos), details)
        self.say(f"{name}: action {row.scores['action'].recall}")
        return row

    def _decoded(self, part: str) -> list[Any]:
        """Returns the clips of a part without those that could not be decoded just now."""
        broken = {name for name, _ in self.data.clips[part].skipped}
        return [clip for clip in self.data.clips[part].clips if clip.segment.name not in broken]

    def _labels_and_videos(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        clips = self._decoded(part)
        rows = np.array([clip.row for clip in clips])
        _, videos = np.unique([clip.segment.video_id for clip in clips], return_inverse=True)
        return self.data.labels[part][rows], videos

    def _score(
        self, logits: Mapping[str, np.ndarray], labels: np.ndarray, videos: np.ndarray
    ) -> dict[str, TaskScore]:
        return score(logits, labels, videos, num_resamples=self.num_resamples, seed=self.sweep.seed)
