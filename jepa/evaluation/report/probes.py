"""What can be read off the frozen features, beside the encoder untrained and raw pixels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np

from jepa.evaluation.encoders import PIXELS, UNTRAINED, load_probe_encoder
from jepa.evaluation.feature_store import FeatureSet, FeatureStore
from jepa.evaluation.labelled_clips import LabelledClips, read_labelled_clips
from jepa.evaluation.linear_probe import linear_probe
from jepa.evaluation.probe_result import ProbeResult, Splits, chance, gain, intervals
from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import Bar, bar_chart
from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.scores import Interval
from jepa.models import LatentWorldModel

FRAMES_OF_WORLD_MODELS = 2  # of a window; the state asked for is that of the last one
MAX_SAMPLES = 384
SHARES = (0.5, 0.2)  # of the recordings: to train and to choose on; the rest is scored
LEAST_RECORDINGS = 10
NAMES = {"trained": "this checkpoint", "untrained": "untrained", "pixels": "raw pixels"}


@dataclass(frozen=True)
class Probed:
    """Probes of several encoders on the same samples.

    Attributes:
        splits: of the trained encoder.
        results: by the name of the encoder, "trained" first.
        scores: by the name of the encoder, also "chance": by name of the score, the main first.
    """

    splits: Splits
    results: Mapping[str, ProbeResult]
    scores: Mapping[str, Mapping[str, Interval]]

    @property
    def main(self) -> str:
        """Name of the main score: "top-1" or "R2"."""
        return next(iter(self.scores["trained"]))

    def gain_over(self, name: str, *, seed: int = 0) -> Interval:
        """By how much the checkpoint exceeds a baseline, on the same recordings."""
        ours, theirs = (self.results[key].predicted for key in ("trained", name))
        return gain(ours, theirs, self.splits.test, seed=seed)


def probe_section(subject: Subject, clips: HeldOutClips, *, seed: int = 0) -> Section:
    """Returns linear probes of the labels or states of the held-out data.

    Raises:
        NotMeasured: if there is nothing to be read off, or too few videos to keep some apart.
    """
    return shown_probes(probe_all(subject, clips, seed=seed), seed=seed)


def probe_all(subject: Subject, clips: HeldOutClips, *, seed: int = 0) -> Probed:
    """Probes the checkpoint's encoder, its untrained twin, and pixels.

    Raises:
        NotMeasured: as `probe_section`.
    """
    if not any(clips.labels) and clips.specification is None:
        raise NotMeasured(f"{clips.shards} holds neither labels nor states: nothing to be read off")
    length = (
        FRAMES_OF_WORLD_MODELS
        if isinstance(subject.model, LatentWorldModel)
        else subject.clip_length_frames
    )
    data = read_labelled_clips(
        clips.shards, clip_length_frames=length, image_size=subject.image_size, crop="whole"
    )
    parts = split_by_recording(data, seed=seed)
    sources = {"trained": subject.name, "untrained": UNTRAINED + subject.name, "pixels": PIXELS}
    results, scores, first = {}, {}, None
    for name, source in sources.items():
        splits = _features(source, parts, subject, length, seed=seed)
        first = first or splits
        results[name] = linear_probe(splits, pool="mean")
        scores[name] = intervals(results[name].predicted, splits.test, seed=seed)
    assert first is not None
    scores["chance"] = intervals(chance(first.train, first.test), first.test, seed=seed)
    return Probed(first, results, scores)


def split_by_recording(data: LabelledClips, *, seed: int = 0) -> list[LabelledClips]:
    """Divides samples into three parts to train, choose and score on; no recording is in two.

    Raises:
        NotMeasured: if there are too few recordings.
    """
    recordings = np.array(data.recordings)
    names = np.unique(recordings)
    if len(names) < LEAST_RECORDINGS:
        raise NotMeasured(
            f"probes need at least {LEAST_RECORDINGS} labelled videos to keep some apart, there "
            f"are {len(names)}"
        )
    names = np.random.default_rng(seed).permutation(names)
    ends = np.cumsum([max(2, round(share * len(names))) for share in SHARES])
    parts = []
    for chosen in np.split(names, ends):
        numbers = np.flatnonzero(np.isin(recordings, chosen))
        most = max(2, round(MAX_SAMPLES * len(chosen) / len(names)))
        picked = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
        parts.append(data.take(numbers[np.unique(picked)]))
    return parts


def shown_probes(probed: Probed, *, seed: int = 0) -> Section:
    """Returns bars with intervals, one chart a score."""
    html = _introduction(probed)
    for score in probed.scores["trained"]:
        bars = [
            Bar(NAMES.get(name, name), *by_score[score], is_ours=name == "trained")
            for name, by_score in probed.scores.items()
        ]
        html += f"<h3>{escape(score)}</h3>\n{bar_chart(bars, _CAPTION)}"
    numbers = {
        name: {score: list(interval) for score, interval in by_score.items()}
        for name, by_score in probed.scores.items()
    }
    gains = {name: probed.gain_over(name, seed=seed) for name in ("untrained", "pixels")}
    numbers["gain"] = {name: list(interval) for name, interval in gains.items()}
    return Section(html, numbers, tuple(_finding(probed, *item) for item in gains.items()))


def _features(
    source: str, parts: list[LabelledClips], subject: Subject, length: int, *, seed: int
) -> Splits:
    """Encodes the three parts; nothing is left on the disk."""
    encoder = load_probe_encoder(
        source, clip_length_frames=length, image_size=subject.image_size, seed=seed
    ).to(subject.device)
    sets = []
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            found = FeatureStore.build(folder, encoder, part, batch_size=8).as_set()
            sets.append(_in_memory(found))
    return Splits(*sets)


def _in_memory(found: FeatureSet) -> FeatureSet:
    """The mean token of each row, which is all that the probe reads."""
    means = np.asarray(found.features, np.float32).mean(2, keepdims=True)
    return FeatureSet(
        means,
        keys=found.keys,
        groups=found.groups,
        clips=found.clips,
        views=found.views,
        labels=found.labels,
        classes=found.classes,
        targets=found.targets,
        recordings=found.recordings,
    )


def _introduction(probed: Probed) -> str:
    train, validation, test = (len(np.unique(part.recordings)) for part in probed.splits)
    asked = probed.splits.train.classes or probed.splits.train.targets
    return (
        f"<p>A linear read-out of {escape(', '.join(map(str, asked)))} from the mean token of "
        f"frozen features. It is fitted on {train} of the videos given, its penalty is chosen on "
        f"{validation}, and it is scored on {test} others.</p>\n"
    )


def _finding(probed: Probed, name: str, interval: Interval) -> Finding:
    text = (
        f"Linear probe, {probed.main}: {interval.value:+.3f} [{interval.low:.3f}, "
        f"{interval.high:.3f}] against {NAMES[name]}"
    )
    return Finding(text, interval.low > 0)


_CAPTION = (
    "With 95 % bootstrap intervals over videos. It would be bad if the checkpoint were not above "
    "the same encoder untrained."
)
