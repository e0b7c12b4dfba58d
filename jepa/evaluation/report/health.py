"""Is the representation healthy? The measures of `jepa health`, beside those without training."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from jepa.evaluation.health.summary import health_summary
from jepa.evaluation.report.charts import (
    Theme,
    chart_png,
    empty_chart,
    paint_legend,
    put_title,
)
from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import grid, number, table, tag, themed, value_text
from jepa.evaluation.report.section import Finding, Section
from jepa.evaluation.report.subject import Subject

OUTCOMES = {"ok": "success", "suspicious": "failure", "collapsed": "failure"}
SMALLEST_SHARE = 1e-7  # of the variance: eigenvalues below are not drawn


def health_section(subject: Subject, clips: HeldOutClips, *, seed: int = 0) -> Section:
    """Returns verdict, measures and spectra."""
    return shown_health(health_summary(subject.model, clips.batches, seed=seed))


def shown_health(summary: Mapping[str, Any]) -> Section:
    """Returns what `health_summary` found."""
    is_good = {"healthy": True}.get(summary["verdict"], False)
    html = (
        f"<p>{tag(escape(summary['verdict']), 'success' if is_good else 'failure')} "
        f"{escape(summary['line'])}, measured on {number(summary['num_clips'])} clips.</p>\n"
        f"{_measure_table(summary['measures'])}{_charts(summary['curves'])}"
    )
    finding = Finding(f"Health: {summary['line']}", is_good)
    return Section(html, dict(summary), (finding,))


def spectrum_chart(spectra: Mapping[str, np.ndarray], *, theme: Theme) -> bytes:
    """Draws eigenvalues over their index on two logarithmic axes, as PNG."""
    figure, axes = empty_chart(400, 290, theme)
    styles = [(theme.accent, "-"), (theme.muted, "--")]
    for (name, values), (colour, style) in zip(spectra.items(), styles, strict=False):
        values = values[values > SMALLEST_SHARE]
        axes.plot(np.arange(1, len(values) + 1), values, style, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("principal component")
    axes.set_ylabel("share of the variance")
    put_title(axes, "Spectrum of the tokens", theme)
    paint_legend(axes.legend(fontsize=9, framealpha=0.85), theme)
    return chart_png(figure)


def distance_chart(curve: Mapping[str, Any], *, theme: Theme) -> bytes:
    """Draws the rank correlation of latent and state distance up to a radius, as PNG."""
    figure, axes = empty_chart(400, 290, theme)
    radius = np.array(curve["radius"], float)
    middle, low, high = (np.array(curve[key], float) for key in ("correlation", "low", "high"))
    axes.fill_between(radius, low, high, color=theme.accent, alpha=0.2, linewidth=0)
    axes.plot(radius, middle, color=theme.accent, linewidth=2)
    axes.axhline(0, color=theme.muted, linewidth=1)
    axes.set_xlabel("state distance up to")
    axes.set_ylabel("rank correlation")
    put_title(axes, "Latent distance follows state distance", theme)
    return chart_png(figure)


def _measure_table(measures: list[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(str(row["name"]).replace("_", " ")),
            value_text(row["value"]),
            value_text(row["untrained"]),
            escape(str(row["reference"])),
            tag(escape(row["verdict"]), OUTCOMES.get(row["verdict"], "")) if row["verdict"] else "",
        ]
        for row in measures
    ]
    return table(["Measure", "this checkpoint", "untrained", "should be", ""], rows)


def _charts(curves: Mapping[str, Any]) -> str:
    panels = []
    names = {"spectrum": "trained", "spectrum_untrained": "untrained"}
    spectra = {name: np.array(curves[key]) for key, name in names.items() if curves.get(key)}
    if spectra:
        panels.append(
            themed(
                lambda theme: spectrum_chart(spectra, theme=theme),
                "Eigenvalues of the covariance of the tokens, trained and untrained",
            )
        )
    distance = curves.get("state_distance")
    if distance and len(distance["radius"]) > 1:
        panels.append(
            themed(
                lambda theme: distance_chart(distance, theme=theme),
                "Rank correlation of latent distance and state distance, by radius",
            )
        )
    if not panels:
        return ""
    return grid(
        panels,
        "A spectrum that falls at once has few directions in use; untrained networks spread what "
        "the pixels hold. Where latent distance follows state distance, a planner can go downhill.",
    )
