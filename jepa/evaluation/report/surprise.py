"""Is the impossible video the more surprising one? Curves and verdicts of `jepa surprise`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from jepa.evaluation.report.pieces import grid, number, table, themed
from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.report.subject import Subject, is_masked_predictor
from jepa.evaluation.surprise.figure import mean_curves, surprise_figure
from jepa.evaluation.surprise.measuring import (
    TRAINED,
    MeasuredFolder,
    measure_folder,
    sources_of,
)
from jepa.evaluation.surprise.models import load_predicting_model
from jepa.evaluation.surprise.verdicts import ALL, Verdict
from jepa.evaluation.surprise.windows import WindowPlan, usual_contexts

FRAMES_BEFORE, FRAMES_AFTER = 12, 12  # of the violation
WINDOW_STRIDE = 2


def surprise_section(subject: Subject, folder: Path | None, *, seed: int = 0) -> Section:
    """Returns verdicts and curves of a folder of pairs.

    Raises:
        NotMeasured: if there is no folder, or nothing that predicts video.
    """
    if folder is None:
        raise NotMeasured("no videos of possible and impossible events (--physics FOLDER)")
    if not is_masked_predictor(subject.model):
        raise NotMeasured(
            f"surprise is measured with a masked predictor of video; this is a {subject.kind}"
        )
    model = load_predicting_model(subject.name)
    measured = measure_folder(
        folder,
        sources_of(model, seed=seed),
        plan=window_plan(subject),
        image_size=subject.image_size,
    )
    return shown_surprise(measured, seed=seed)


def window_plan(subject: Subject) -> WindowPlan:
    """Returns windows as long as a clip, of which the usual shares are shown."""
    encoder: Any = subject.model.encoder
    length = encoder.grid[0] * encoder.tubelet[0]
    return WindowPlan(length, WINDOW_STRIDE, usual_contexts(length, encoder.tubelet[0]))


def shown_surprise(measured: MeasuredFolder, *, seed: int = 0) -> Section:
    """Returns what was measured."""
    judged = {source: measured.verdicts(source, seed=seed) for source in measured.pairs[0].possible}
    numbers = {
        source: {
            concept: {
                "pairs": verdict.num_pairs,
                "relative_accuracy": list(verdict.relative_accuracy),
                "auroc": list(verdict.auroc),
            }
            for concept, verdict in by_concept.items()
        }
        for source, by_concept in judged.items()
    }
    html = f"{_INTRODUCTION}{_verdict_table(judged)}{_curves(measured)}"
    return Section(html, numbers, (_finding(judged[TRAINED][ALL]),))


def _verdict_table(judged: Mapping[str, Mapping[str, Verdict]]) -> str:
    rows = []
    for concept, verdict in judged[TRAINED].items():
        for source, by_concept in judged.items():
            accuracy, auroc = by_concept[concept].relative_accuracy, by_concept[concept].auroc
            rows.append([
                escape(f"{concept} ({verdict.num_pairs} pairs)" if source == TRAINED else ""),
                escape("this checkpoint" if source == TRAINED else source),
                *(_interval(score) for score in (accuracy, auroc)),
            ])  # fmt: skip
    return table(
        ["Concept", "what is surprised", "relative accuracy", "AUROC"],
        rows,
        caption="Relative accuracy: share of pairs whose impossible video is the more surprising "
        "one. Chance is 0.5; 95 % bootstrap intervals over scenes.",
    )


def _interval(score: Any) -> str:  # noqa: ANN401 - an Interval
    return (
        f"<b>{number(score.value)}</b> <small>{number(score.low)} to {number(score.high)}</small>"
    )


def _curves(measured: MeasuredFolder) -> str:
    """The mean curve of each concept, around the moment of violation."""
    panels = []
    for concept in sorted({pair.concept for pair in measured.pairs}):
        curves = [
            (pair.possible[TRAINED].curve(), pair.impossible[TRAINED].curve(), pair.violation_frame)
            for pair in measured.pairs
            if pair.concept == concept and pair.violation_frame is not None
        ]
        if curves:
            means = mean_curves(curves, before=FRAMES_BEFORE, after=FRAMES_AFTER)
            title = f"{concept}: mean of {len(curves)} pairs"
            panels.append(
                themed(
                    lambda theme, means=means, title=title: surprise_figure(
                        *means, violation_frame=FRAMES_BEFORE, title=title, theme=theme
                    ),
                    f"Surprise over time at possible and impossible videos, {title}",
                )
            )
    if not panels:
        return ""
    return grid(
        panels,
        "Surprise over time; the dashed line is the moment of violation. The curves should part "
        "there, the impossible one upwards; it would be bad if they never did.",
        size="wide",
    )


def _finding(verdict: Verdict) -> Finding:
    score = verdict.relative_accuracy
    text = (
        f"In {100 * score.value:.0f} % [{100 * score.low:.0f}, {100 * score.high:.0f}] of "
        f"{verdict.num_pairs} pairs the impossible video is the more surprising one (50 % by "
        "chance)"
    )
    return Finding(text, score.low > 0.5)


_INTRODUCTION = (
    "<p>A model that knows some physics should predict possible videos better than impossible "
    "ones. Surprise is how far the predicted latents are from those that came.</p>\n"
)
