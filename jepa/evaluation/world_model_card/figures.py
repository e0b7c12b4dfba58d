"""Charts of the report card: measured parts in, PNG bytes out, for a light or a dark page."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jepa.evaluation.report.charts import (
    LIGHT,
    Theme,
    chart_png,
    empty_chart,
    paint,
    paint_legend,
    put_title,
)
from jepa.evaluation.world_model_card.card import WorldModelCard
from jepa.evaluation.world_model_card.drift import Drift
from jepa.evaluation.world_model_card.generalisation import Generalisation
from jepa.evaluation.world_model_card.response import DEAD_SHARE, ActionResponse
from jepa.evaluation.world_model_card.responsiveness import Responsiveness
from jepa.evaluation.world_model_card.verdict import NotMeasured, intervals_of

WIDTH, HEIGHT = 480, 320  # pixels of the page
ROW_HEIGHT = 34


def drift_figure(drift: Drift, *, theme: Theme = LIGHT) -> bytes:
    """The error of a rollout by the number of steps, beside a copy and the mean latent."""
    figure, axes = empty_chart(WIDTH, HEIGHT, theme)
    lines = (
        ("imagined", drift.imagined, theme.accent, "-"),
        ("copy of the start", drift.copied, theme.contrast, "--"),
        ("mean latent", drift.mean, theme.muted, ":"),
    )
    for name, intervals, colour, style in lines:
        values = intervals_of(intervals)
        steps = range(1, len(values) + 1)
        axes.fill_between(steps, values[:, 1], values[:, 2], color=colour, alpha=0.18, linewidth=0)
        axes.plot(steps, values[:, 0], style, color=colour, linewidth=2, label=name)
    horizon = len(drift.imagined)
    put_title(axes, f"Drift: better than a copy for {drift.useful_horizon} of {horizon}", theme)
    axes.set_xlabel("imagined steps")
    axes.set_ylabel("latent distance to what came true")
    axes.set_xlim(1, max(horizon, 2))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(figure, theme)
    return chart_png(figure, paper=theme.paper)


def response_figure(response: ActionResponse, *, theme: Theme = LIGHT) -> bytes:
    """How far a typical action moves the next latent, one bar a dimension."""
    names, values = response.names, intervals_of(response.share_of_step)
    figure, axes = empty_chart(WIDTH, 130 + ROW_HEIGHT * len(names), theme)
    colours = [theme.bad if name in response.dead else theme.accent for name in names]
    _draw_bars(axes, names, values, colours, theme)
    put_title(axes, "Response to one typical change of an action", theme)
    axes.set_xlabel("shares of the latent distance of a recorded step")
    if response.dead:
        axes.axvline(DEAD_SHARE, color=theme.bad, linewidth=1, linestyle=":")
    axes.set_xlim(left=0)
    return chart_png(figure, paper=theme.paper)


def latency_figure(part: Responsiveness, *, theme: Theme = LIGHT) -> bytes:
    """Histograms of how long each kind of work took, and the deadline."""
    count = len(part.latencies)
    figure = Figure(figsize=(WIDTH / 100, (90 + 62 * count) / 100), layout="constrained")
    rows = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axes, latency in zip(rows, part.latencies, strict=True):
        paint(axes, theme)
        axes.hist([1000 * s for s in latency.seconds], bins=24, color=theme.accent, alpha=0.8)
        axes.axvline(1000 * latency.percentile_seconds(95), color=theme.contrast, linewidth=1.4)
        size = f" {latency.batch_size} x {latency.num_steps}" if latency.num_steps else ""
        axes.set_title(latency.name + size, loc="left", color=theme.ink, fontsize=9, pad=2)
        axes.set_yticks([])
        axes.set_xlim(left=0)
    deadline = 1000 / part.deadline_hz
    rows[-1].axvline(deadline, color=theme.bad, linewidth=1.4, linestyle="--")
    rows[-1].set_xlabel("milliseconds; solid: 95 % are faster")
    told = f"{part.share_in_time:.0%} within {deadline:.3g} ms (dashed), {part.machine}"
    figure.suptitle(told, color=theme.ink, fontsize=10.5, fontweight="bold")
    return chart_png(figure, paper=theme.paper)


def shift_figure(part: Generalisation, *, theme: Theme = LIGHT) -> bytes:
    """The error in each shifted world, over the nominal one."""
    names = tuple(shift.name for shift in part.shifts)
    values = intervals_of(tuple(shift.error_ratio for shift in part.shifts))
    figure, axes = empty_chart(WIDTH, 130 + ROW_HEIGHT * len(names), theme)
    is_good = [shift.verdict.outcome == "pass" for shift in part.shifts]
    _draw_bars(axes, names, values, [theme.good if good else theme.bad for good in is_good], theme)
    axes.axvline(1, color=theme.ink, linewidth=1, linestyle=":")
    put_title(axes, "Error under a shift, over the nominal error", theme)
    axes.set_xlabel("1: as in the nominal world; green passes, red does not")
    axes.set_xlim(left=0)
    return chart_png(figure, paper=theme.paper)


def card_figures(card: WorldModelCard, *, theme: Theme = LIGHT) -> dict[str, bytes]:
    """Returns a PNG of every part that was measured, by name."""
    found = {}
    if not isinstance(card.drift, NotMeasured):
        found["drift"] = drift_figure(card.drift, theme=theme)
    if not isinstance(card.controllability, NotMeasured):
        found["response"] = response_figure(card.controllability.response, theme=theme)
    if not isinstance(card.responsiveness, NotMeasured):
        found["latency"] = latency_figure(card.responsiveness, theme=theme)
    if not isinstance(card.generalisation, NotMeasured):
        found["shifts"] = shift_figure(card.generalisation, theme=theme)
    return found


def _draw_bars(
    axes: Axes, names: tuple[str, ...], values: np.ndarray, colours: list[str], theme: Theme
) -> None:
    """Draws one horizontal bar a row of values (names, 3), with its interval."""
    for row, (value, low, high) in enumerate(values):
        axes.barh(row, value, height=0.6, color=colours[row], alpha=0.9, linewidth=0)
        axes.plot([low, high], [row, row], color=theme.ink, linewidth=1.5)
    axes.set_yticks(range(len(names)), names, color=theme.ink)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _legend_below(figure: Figure, theme: Theme) -> None:
    legend = figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    paint_legend(legend, theme)
