"""Pictures of the demo's report: arrays in, PNG or GIF bytes out.

Nothing here reads a file or keeps a state; every number that a picture shows is computed from
its arguments. Charts are drawn for a `Theme`, transparent, so that the report can hold a light
and a dark version of each. Pictures made of pixels (strips, episodes) have no theme.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from jepa.evaluation.report.charts import (
    HALO,
    LIGHT,
    NEAR_TO_FAR,
    ON_HEAT,
    Theme,
    chart_png,
    empty_chart,
    enlarged,
    hide_axes,
    paint,
    paint_colour_bar,
    paint_legend,
    put_legend,
    put_title,
)

if TYPE_CHECKING:
    from jepa.demo.report import DistanceMap, EnergyLandscape, EpisodePicture, ReportInputs

Extent = tuple[float, float, float, float]


QUIET_BAR = "#aeb1b9"
REACH_PIXELS = 5.0  # how far one action moves the disc
ARRIVAL_PIXELS = 4.0  # nearer than this is success

POLICY_NAMES = {
    "planner": "Planner",
    "oracle": "Oracle",
    "straight_line": "Straight line",
    "sticky_random": "Random, sticky",
    "random": "Random",
    "do_nothing": "No action",
}
POLICY_NOTES = {
    "planner": "goal: an image only",
    "oracle": "knows the map",
    "straight_line": "knows both positions",
    "sticky_random": "repeats its actions",
}

GIF_SCALE = 3
GIF_BORDER = 6
GIF_PROGRESS_HEIGHT = 6
GIF_NUM_VERDICT_FRAMES = 3  # how many frames at the end carry the coloured border
GIF_FRAME_MILLISECONDS, GIF_LAST_FRAME_MILLISECONDS = 110, 1800
GIF_NEUTRAL, GIF_TRACK, GIF_DONE = (64, 68, 78), (44, 47, 56), (132, 178, 226)
GIF_SUCCESS, GIF_FAILURE = (46, 160, 92), (206, 52, 44)


# ------------------------------------------------------------------ arithmetic


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Returns the rank correlation of the finite pairs; None where there is no order at all."""
    first, second = _finite_pairs(first, second)
    if len(first) < 2:
        return None
    first_rank, second_rank = _ranks(first), _ranks(second)
    first_rank, second_rank = first_rank - first_rank.mean(), second_rank - second_rank.mean()
    scale = float(np.sqrt((first_rank**2).sum() * (second_rank**2).sum()))
    return float((first_rank * second_rank).sum() / scale) if scale > 0 else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def binned_quartiles(x: np.ndarray, y: np.ndarray, *, num_bins: int = 16) -> np.ndarray:
    """Summarises y along x.

    Returns:
        (bins, 4): middle of the bin, lower quartile, median, upper quartile; bins of equal
        width, those with fewer than three values are left out.
    """
    x, y = _finite_pairs(x, y)
    if not len(x) or x.min() == x.max():
        return np.empty((0, 4))
    edges = np.linspace(x.min(), x.max(), num_bins + 1)
    index = np.clip(np.digitize(x, edges) - 1, 0, num_bins - 1)
    middles = (edges[:-1] + edges[1:]) / 2
    filled = [b for b in range(num_bins) if (index == b).sum() >= 3]
    rows = [(middles[b], *np.percentile(y[index == b], (25, 50, 75))) for b in filled]
    return np.array(rows).reshape(-1, 4)


def descent_paths(values: np.ndarray, extent: Extent, goal: np.ndarray) -> list[np.ndarray]:
    """Walks downhill on a distance map from every free position.

    A step goes to the nearest-to-the-goal (by `values`) position within `REACH_PIXELS`; the walk
    ends near the goal, or where no position in reach is better. Reach is measured straight, so
    walls must be thicker than that (for the middle of the disc they are 11 pixels).

    Args:
        values: (n, n), NaN where not free; first axis is y, second x.
        extent: left, right, top, bottom of the map in pixels.
        goal: (2,), x and y in pixels.

    Returns:
        One (steps, 2) array of x, y in pixels per free position.
    """
    centers = _cell_centers(values.shape, extent)
    free = np.argwhere(np.isfinite(values))
    positions, heights = centers[free[:, 0], free[:, 1]], values[free[:, 0], free[:, 1]]
    if not len(positions):
        return []
    near = np.linalg.norm(positions[:, None] - positions[None], axis=-1) <= REACH_PIXELS
    best = np.where(near, heights[None], np.inf).argmin(1)
    arrived = arrives(positions, goal)
    return [_follow(start, best, heights, arrived, positions) for start in range(len(positions))]


def arrives(positions: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """True for positions (..., 2) that count as success."""
    return np.linalg.norm(positions - goal, axis=-1) < ARRIVAL_PIXELS


def share_that_arrives(paths: Sequence[np.ndarray], goal: np.ndarray) -> float | None:
    """The share of walks that end at the goal; None without walks."""
    return float(np.mean([arrives(path[-1], goal) for path in paths])) if paths else None


def disc_positions(frames: np.ndarray) -> np.ndarray:
    """Finds the red disc: (time, height, width, 3) to (time, 2) x and y in pixels.

    A frame without anything red gives NaN.
    """
    pixels = frames.astype(np.float64)
    redness = np.clip(pixels[..., 0] - pixels[..., 1:].max(-1) - 60, 0, None)
    total = redness.sum((1, 2))
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]] + 0.5
    sums = np.stack([(redness * x).sum((1, 2)), (redness * y).sum((1, 2))], -1)
    return np.where(total[:, None] > 0, sums / np.maximum(total, 1e-9)[:, None], np.nan)


def angle_between_degrees(first: np.ndarray, second: np.ndarray) -> float | None:
    """The angle between two actions (2,), 0 to 180; None where one of them is zero."""
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    if scale == 0 or not np.isfinite(scale):
        return None
    return float(np.degrees(np.arccos(np.clip(np.dot(first, second) / scale, -1, 1))))


def _follow(
    start: int, best: np.ndarray, heights: np.ndarray, arrived: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    visited = [start]
    while not arrived[visited[-1]] and heights[best[visited[-1]]] < heights[visited[-1]]:
        visited.append(best[visited[-1]])
    return positions[visited]


def _cell_centers(shape: tuple[int, ...], extent: Extent) -> np.ndarray:
    """(rows, columns, 2): x and y in pixels of the middle of each cell."""
    left, right, top, bottom = extent
    y = top + (np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]
    x = left + (np.arange(shape[1]) + 0.5) * (right - left) / shape[1]
    return np.stack(np.meshgrid(x, y), -1)


def _finite_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


# ------------------------------------------------------------------ pictures of pixels


def episode_gif(frames: np.ndarray, goal: np.ndarray, *, is_success: bool) -> bytes:
    """An episode as GIF: the camera on the left, the goal image on the right.

    A bar below shows the time (and keeps equal frames apart, which GIF writers would merge). The
    border of the last frames is green after a success, red after a failure; the last one stays.

    Args:
        frames: (time, height, width, 3) uint8, one GIF frame each.
        goal: (height, width, 3) uint8.
        is_success: how it ended.
    """
    verdict = GIF_SUCCESS if is_success else GIF_FAILURE
    first_verdict = len(frames) - GIF_NUM_VERDICT_FRAMES
    pictures = [
        _gif_frame(
            frame,
            goal,
            border=verdict if index >= first_verdict else GIF_NEUTRAL,
            progress=(index + 1) / len(frames),
        )
        for index, frame in enumerate(frames)
    ]
    palette = _shared_palette([pictures[0], pictures[len(pictures) // 2], pictures[-1]])
    images = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    durations = [GIF_FRAME_MILLISECONDS] * (len(images) - 1) + [GIF_LAST_FRAME_MILLISECONDS]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def _gif_frame(
    frame: np.ndarray, goal: np.ndarray, *, border: tuple[int, int, int], progress: float
) -> Image.Image:
    left, right = enlarged(frame, GIF_SCALE), enlarged(goal, GIF_SCALE)
    h, w = left.shape[:2]
    total_width = 2 * w + 3 * GIF_BORDER
    canvas = np.empty((h + 2 * GIF_BORDER + GIF_PROGRESS_HEIGHT, total_width, 3), np.uint8)
    canvas[:] = border
    canvas[GIF_BORDER : GIF_BORDER + h, GIF_BORDER : GIF_BORDER + w] = left
    canvas[GIF_BORDER : GIF_BORDER + h, 2 * GIF_BORDER + w : 2 * GIF_BORDER + 2 * w] = right
    canvas[-GIF_PROGRESS_HEIGHT:] = GIF_TRACK
    canvas[-GIF_PROGRESS_HEIGHT:, : max(1, round(progress * total_width))] = GIF_DONE
    return Image.fromarray(canvas)


def _shared_palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """At most 128 colours of these pictures, with both verdicts and the bar among them."""
    swatch = np.array([GIF_SUCCESS, GIF_FAILURE, GIF_NEUTRAL, GIF_TRACK, GIF_DONE], np.uint8)
    width = pictures[0].width
    rows = [np.asarray(picture) for picture in pictures]
    rows += [np.broadcast_to(colour, (24, width, 3)) for colour in swatch]
    return Image.fromarray(np.concatenate(rows)).quantize(128, dither=Image.Dither.NONE)


# ------------------------------------------------------------------ charts


def training_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    theme: Theme,
    title: str,
    log: bool = False,
    limit: tuple[str, float] | None = None,
) -> bytes:
    """Values over training steps; thin the values, thick their running mean.

    Args:
        curves: name to steps and values; a name that begins with "baseline" is drawn dashed.
        theme: the colours.
        title: above the chart.
        log: a logarithmic axis, where all values are positive.
        limit: name and value of a horizontal line, such as the number of dimensions.
    """
    figure, axes = empty_chart(400, 270, theme)
    for (name, (steps, values)), colour in zip(curves.items(), _colours(theme), strict=False):
        is_baseline = name.startswith("baseline")
        colour = theme.muted if is_baseline else colour
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(
            *_running_mean(steps, values),
            color=colour,
            linewidth=2,
            linestyle="--" if is_baseline else "-",
            label=name,
        )
    if limit is not None:
        axes.axhline(limit[1], color=theme.muted, linewidth=1.4, linestyle=":", label=limit[0])
    positive = all((values > 0).all() for _, values in curves.values())
    if log and positive:
        _log_axis(axes, [values for _, values in curves.values()])
    else:
        axes.set_ylim(bottom=_bottom(*(values for _, values in curves.values())))
    put_title(axes, title, theme)
    axes.set_xlabel("training step")
    if len(curves) + (limit is not None) > 1:
        legend = figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        paint_legend(legend, theme)
    return chart_png(figure)


def distance_scatter(
    path_length: np.ndarray, distance: np.ndarray, *, theme: Theme, name: str
) -> bytes:
    """A distance against the length of the way: where the pairs lie, and their median.

    Args:
        path_length: (pairs,) in pixels.
        distance: (pairs,), any unit.
        theme: the colours.
        name: of the distance; the title adds the rank correlation.
    """
    figure, axes = empty_chart(520, 400, theme)
    x, y = _finite_pairs(path_length, distance)
    shades = LinearSegmentedColormap.from_list("count", [theme.grid, theme.accent])
    if len(x):
        axes.hexbin(x, y, gridsize=34, bins="log", mincnt=1, cmap=shades, linewidths=0.2)
    quartiles = binned_quartiles(x, y)
    if len(quartiles):
        axes.plot(*quartiles[:, [0, 2]].T, color=theme.contrast, linewidth=2.6, label="median")
        for column in (1, 3):
            label = "quartiles" if column == 1 else None
            line = quartiles[:, [0, column]].T
            axes.plot(*line, color=theme.contrast, linewidth=1, linestyle="--", label=label)
        put_legend(axes, theme, place="lower right")
    correlation = spearman(x, y)
    value = "undefined" if correlation is None else f"{correlation:.2f}"
    put_title(axes, f"{name}: Spearman {value}", theme)
    axes.set_xlabel("length of the way (pixels)")
    axes.set_ylabel("distance")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=_bottom(y))
    return chart_png(figure)


def distance_heat(
    values: np.ndarray, distance_map: DistanceMap, *, theme: Theme, name: str
) -> bytes:
    """A distance to one goal over the room, with walks downhill from many positions.

    Args:
        values: (n, n): `distance_map.values` or `distance_map.token_values`.
        distance_map: the extent, the goal and the room.
        theme: the colours.
        name: the title.
    """
    figure = Figure(figsize=(5.2, 6.0))  # no layout engine: two maps get the same size
    axes = figure.add_axes((0.02, 0.105, 0.96, 0.832))
    paint(axes, theme)
    image = _draw_heat(axes, values, distance_map)
    _draw_walks(axes, values, distance_map)
    _draw_goal(axes, distance_map.goal)
    bar = figure.colorbar(
        image, cax=figure.add_axes((0.04, 0.075, 0.92, 0.018)), orientation="horizontal"
    )
    paint_colour_bar(bar, theme=theme, name="distance to the goal")
    put_title(axes, name, theme)
    return chart_png(figure)


def energy_contour(landscape: EnergyLandscape, *, theme: Theme) -> bytes:
    """The cost of the plan over its first action, as a map; down is down in the picture."""
    figure, axes = empty_chart(520, 600, theme)
    costs = np.ma.masked_invalid(landscape.costs)
    if _varies(costs):
        plane = (landscape.dx, landscape.dy, costs)
        filled = axes.contourf(*plane, levels=14, cmap=NEAR_TO_FAR)
        axes.contour(*plane, levels=14, colors=HALO, linewidths=0.5, alpha=0.6)
        bar = figure.colorbar(filled, ax=axes, location="bottom", aspect=44, pad=0.025)
        paint_colour_bar(bar, theme=theme, name="cost")
    axes.axhline(0, color=ON_HEAT, linewidth=0.6, alpha=0.5)
    axes.axvline(0, color=ON_HEAT, linewidth=0.6, alpha=0.5)
    _draw_actions(axes, landscape)
    axes.set_aspect("equal")
    axes.set_xlim(landscape.dx.min(), landscape.dx.max())
    axes.set_ylim(landscape.dy.max(), landscape.dy.min())
    axes.set_xlabel("dx (pixels per step)")
    axes.set_ylabel("dy (pixels per step), down is positive")
    axes.grid(False)
    legend = figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=10)
    paint_legend(legend, theme)
    return chart_png(figure)


def lowest_cost_action(landscape: EnergyLandscape) -> np.ndarray:
    """The action (2,) of the cheapest cell of the landscape."""
    costs = np.where(np.isfinite(landscape.costs), landscape.costs, np.inf)
    row, column = np.unravel_index(costs.argmin(), costs.shape)
    return np.array([landscape.dx[column], landscape.dy[row]])


def imagined_distance(
    real: np.ndarray,
    imagined: Sequence[np.ndarray],
    plan_starts: Sequence[int],
    *,
    theme: Theme,
) -> bytes:
    """The distance to the goal as it was, and as each plan imagined that it would be.

    Args:
        real: (steps + 1,), the latent cost before the first step and after each.
        imagined: for each plan (horizon,), the cost after each imagined action.
        plan_starts: the environment step at which each plan was made.
        theme: the colours.
    """
    figure, axes = empty_chart(560, 300, theme)
    for index, (curve, start) in enumerate(zip(imagined, plan_starts, strict=True)):
        steps = np.arange(start, start + len(curve) + 1)
        values = np.concatenate([real[start : start + 1], curve])
        label = "imagined by each plan" if index == 0 else None
        axes.plot(
            steps[-len(values) :], values, color=theme.contrast, linewidth=1.3, alpha=0.75,
            label=label,
        )  # fmt: skip
        axes.plot(start, real[start], "o", color=theme.contrast, markersize=3.5)
    axes.plot(np.arange(len(real)), real, color=theme.ink, linewidth=2.4, label="real")
    axes.set_xlabel("environment step")
    axes.set_ylabel("latent distance to the goal")
    axes.set_ylim(bottom=_bottom(real, *imagined))
    put_legend(axes, theme, place="upper right")
    return chart_png(figure)


def _colours(theme: Theme) -> list[str]:
    return [theme.accent, theme.contrast, theme.good, theme.bad, theme.ink, theme.muted]


def _bottom(*arrays: np.ndarray) -> float:
    """The lowest finite value, but at most 0: where an axis of distances begins."""
    values = np.concatenate(arrays)
    return min(0.0, *values[np.isfinite(values)], 0.0)


def _varies(values: np.ma.MaskedArray) -> bool:
    """True where there is something to draw level lines of."""
    finite = values.compressed()
    return len(finite) > 0 and bool(np.ptp(finite) > 0)


def _running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over windows of about a twentieth of the curve; a short curve stays as it is."""
    window = max(1, len(values) // 20)
    kernel = np.ones(window) / window
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def _log_axis(axes: Axes, curves: Sequence[np.ndarray]) -> None:
    """A logarithmic y axis whose few ticks are plain numbers."""
    values = np.concatenate(curves)
    low, high = float(values.min()), float(values.max())
    axes.set_yscale("log")
    candidates = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5)]
    ticks = [tick for tick in candidates if low * 0.9 <= tick <= high * 1.1]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def _draw_heat(axes: Axes, values: np.ndarray, distance_map: DistanceMap) -> Any:  # noqa: ANN401
    left, right, top, bottom = distance_map.extent
    height, width = distance_map.background.shape[:2]
    grey = distance_map.background.mean(-1)
    axes.imshow(grey, cmap="gray", vmin=-60, vmax=255, extent=(0, width, height, 0))
    free = np.ma.masked_invalid(values)
    image = axes.imshow(
        free, cmap=NEAR_TO_FAR, extent=(left, right, bottom, top), interpolation="nearest"
    )
    x, y = _cell_centers(values.shape, distance_map.extent).transpose(2, 0, 1)
    if _varies(free):
        axes.contour(x, y, free, levels=9, colors=HALO, linewidths=0.7, alpha=0.75)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    hide_axes(axes)
    return image


def _draw_walks(axes: Axes, values: np.ndarray, distance_map: DistanceMap) -> None:
    """About forty walks downhill; a cross where one ends without arriving."""
    paths = descent_paths(values, distance_map.extent, distance_map.goal)
    spacing = max(1, values.shape[0] // 9)
    pitch = (distance_map.extent[1] - distance_map.extent[0]) / values.shape[1]
    for path in paths:
        column, row = np.round((path[0] - distance_map.extent[::2]) / pitch - 0.5).astype(int)
        if column % spacing != spacing // 2 or row % spacing != spacing // 2:
            continue
        axes.plot(*path.T, color=ON_HEAT, linewidth=1.0, alpha=0.75)
        axes.plot(*path[0], "o", color=ON_HEAT, markersize=2.2)
        if not arrives(path[-1], distance_map.goal):
            halo = [withStroke(linewidth=3.6, foreground=HALO)]
            axes.plot(
                *path[-1], "x", color=LIGHT.bad, markersize=6.5, markeredgewidth=2,
                path_effects=halo, zorder=5,
            )  # fmt: skip


def _draw_goal(axes: Axes, goal: np.ndarray) -> None:
    axes.plot(
        *goal, "*", color=LIGHT.bad, markersize=17, markeredgecolor=HALO, markeredgewidth=1.3,
        zorder=6,
    )  # fmt: skip


def _draw_actions(axes: Axes, landscape: EnergyLandscape) -> None:
    outline = {"linestyle": "none", "markeredgecolor": ON_HEAT, "markeredgewidth": 1.3}
    marks = [
        ("lowest cost", lowest_cost_action(landscape), "o", HALO, 12),
        ("oracle", landscape.oracle_action, "*", LIGHT.good, 15),
        ("planned", landscape.planned_action, "D", LIGHT.contrast, 7.5),
    ]
    for name, action, marker, colour, size in marks:
        (line,) = axes.plot(
            *action, marker, color=colour, markersize=size, label=name, clip_on=False, zorder=6,
            **outline,
        )  # fmt: skip
        line.set_in_layout(False)  # an action outside the map must not squeeze the map


# ------------------------------------------------------------------ the picture of the README


def hero_picture(inputs: ReportInputs) -> bytes:
    """One wide PNG, 1200 by 420: what is given, the way that was found, and how often.

    The heat is `inputs.distance_map`; it is drawn only under an episode with the same goal (see
    `hero_episode`). What is missing from the inputs leaves its place empty.
    """
    theme = LIGHT
    figure = Figure(figsize=(12, 4.2))
    episode = hero_episode(inputs)
    if episode is not None:
        for title, image, bottom in (
            ("start", episode.frames[0], 0.445),
            ("goal", episode.goal, 0.04),
        ):
            axes = figure.add_axes((0.02, bottom, 0.133, 0.38))
            axes.imshow(image, interpolation="nearest")
            hide_axes(axes)
            axes.text(1.5, 3, title, color=HALO, fontsize=11, fontweight="bold", va="top",
                      path_effects=[withStroke(linewidth=3, foreground=ON_HEAT)])  # fmt: skip
        _draw_way(figure.add_axes((0.166, 0.04, 0.275, 0.785)), episode, inputs)
    bars = figure.add_axes((0.645, 0.1, 0.285, 0.725))
    paint(bars, theme)
    draw_success_bars(bars, inputs.summary.get("success", {}), theme=theme)
    heading = {"color": theme.ink, "fontsize": 13, "fontweight": "bold", "va": "center"}
    below = {"color": theme.muted, "fontsize": 10, "va": "center"}
    figure.text(0.02, 0.94, "Planned to a goal image", **heading)
    figure.text(0.02, 0.878, "colour: learned distance to the goal, pale is near", **below)
    figure.text(0.51, 0.94, "Goals reached", **heading)
    figure.text(0.51, 0.878, "thin lines: 95 % intervals", **below)
    return chart_png(figure, paper=theme.paper, sharpness=1)


def hero_episode(inputs: ReportInputs) -> EpisodePicture | None:
    """The episode for the README: a success, to the goal of the distance map, by a long way."""
    if not inputs.episodes:
        return None
    distance_map = inputs.distance_map

    def merit(episode: EpisodePicture) -> tuple[bool, bool, float]:
        way = disc_positions(episode.frames)
        length = float(np.nansum(np.linalg.norm(np.diff(way, axis=0), axis=-1)))
        same_goal = distance_map is not None and _has_goal(episode, distance_map)
        return episode.is_success, same_goal, length

    return max(inputs.episodes, key=merit)


def draw_success_bars(axes: Axes, success: Mapping[str, Any], *, theme: Theme) -> None:
    """Success rates with their intervals as horizontal bars, the planner first."""
    names = policy_order(success)
    if not names:
        axes.set_axis_off()
        return
    for row, name in enumerate(names):
        entry = success[name]
        colour = theme.accent if name == "planner" else QUIET_BAR
        axes.barh(row, entry["rate"], height=0.62, color=colour, alpha=0.95, linewidth=0)
        axes.plot([entry["low"], entry["high"]], [row, row], color=theme.ink, linewidth=1.6)
        weight = "bold" if name == "planner" else "normal"
        percent = f"{100 * entry['rate']:.0f} %"
        axes.text(1.03, row, percent, va="center", color=theme.ink, fontsize=11, fontweight=weight)
    labels = [policy_name(name) for name in names]
    labels = [
        f"{label}\n({POLICY_NOTES[name]})" if name in POLICY_NOTES else label
        for name, label in zip(names, labels, strict=True)
    ]
    axes.set_yticks(range(len(names)), labels, color=theme.ink, fontsize=10)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def policy_name(name: str) -> str:
    """How the report calls a policy."""
    return POLICY_NAMES.get(name, name.replace("_", " ").capitalize())


def policy_order(names: Iterable[str]) -> list[str]:
    """The planner first, then from the strongest rule to none, then what is not known here."""
    names = list(names)
    known = [name for name in POLICY_NAMES if name in names]
    return known + [name for name in names if name not in POLICY_NAMES]


def _draw_way(axes: Axes, episode: EpisodePicture, inputs: ReportInputs) -> None:
    """The way of the disc over the room, with the distance map below where it is of this goal."""
    distance_map = inputs.distance_map
    if distance_map is not None and _has_goal(episode, distance_map):
        _draw_heat(axes, distance_map.values, distance_map)
    else:
        axes.imshow(episode.frames[0], extent=(0, *episode.frames.shape[2:0:-1], 0))
        hide_axes(axes)
    way = disc_positions(episode.frames)
    halo = [withStroke(linewidth=5, foreground=HALO)]
    axes.plot(*way.T, "-", color=LIGHT.bad, linewidth=2.4, path_effects=halo)
    axes.plot(*way.T, "o", color=LIGHT.bad, markersize=4.5)
    axes.plot(*way[0], "o", color=LIGHT.bad, markersize=12, markeredgecolor=HALO,
              markeredgewidth=1.6)  # fmt: skip
    _draw_goal(axes, disc_positions(episode.goal[None])[0])


def _has_goal(episode: EpisodePicture, distance_map: DistanceMap) -> bool:
    return bool(arrives(disc_positions(episode.goal[None])[0], distance_map.goal))
