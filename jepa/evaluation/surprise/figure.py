"""A picture of surprise over time, with the moment at which the impossible happens."""

from __future__ import annotations

import numpy as np

from jepa.evaluation.report.charts import (
    LIGHT,
    Theme,
    chart_png,
    empty_chart,
    paint_legend,
    put_title,
)


def surprise_figure(
    possible: np.ndarray,
    impossible: np.ndarray,
    *,
    violation_frame: int | None = None,
    title: str = "Surprise over time",
    theme: Theme = LIGHT,
    paper: str = "none",
) -> bytes:
    """Draws the curves of a pair.

    Args:
        possible: (time,), surprise at each frame; NaN where there is none.
        impossible: the same, of the impossible video.
        violation_frame: marked by a line; None if it is not known.
        title: over the picture.
        theme: its colours.
        paper: colour of the background.

    Returns:
        A PNG.
    """
    figure, axes = empty_chart(560, 260, theme)
    axes.plot(impossible, color=theme.contrast, linewidth=2, label="impossible")
    axes.plot(possible, color=theme.accent, linewidth=2, label="possible")
    if violation_frame is not None:
        axes.axvline(
            violation_frame, color=theme.ink, linestyle="--", linewidth=1, label="violation"
        )
    axes.set_xlabel("frame")
    axes.set_ylabel("surprise")
    axes.set_xlim(0, max(len(possible), len(impossible)) - 1)
    put_title(axes, title, theme)
    paint_legend(axes.legend(loc="upper left", fontsize=9, framealpha=0.85), theme)
    return chart_png(figure, paper=paper)


def mean_curves(
    curves: list[tuple[np.ndarray, np.ndarray, int]], *, before: int, after: int
) -> tuple[np.ndarray, np.ndarray]:
    """Averages the curves of several pairs, laid over each other at the moment of violation.

    Args:
        curves: possible (time,), impossible (time,), and the frame of violation, of each pair.
        before: frames before the violation that are wanted.
        after: frames from the violation on.

    Returns:
        Mean surprise of the possible and of the impossible videos: (before + after,) each, the
        violation at index `before`; NaN where no pair has a value.
    """
    rows = np.full((2, len(curves), before + after), np.nan)
    for number, (possible, impossible, moment) in enumerate(curves):
        for kind, curve in enumerate((possible, impossible)):
            first, last = max(moment - before, 0), min(moment + after, len(curve))
            offset = first - (moment - before)
            rows[kind, number, offset : offset + last - first] = curve[first:last]
    known = np.isfinite(rows)
    total = np.where(known, rows, 0).sum(1)  # (2, before + after)
    count = known.sum(1)
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return means[0], means[1]
