"""Pictures of a run: the episode as a GIF, the energy landscape as a PNG. Arrays in, bytes out.

Colours are Okabe and Ito's and viridis: they stay apart for colour-blind readers, and nothing is
told by colour alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from planning.landscape import MIN_RELIEF, Landscape

INK, MUTED, GRID, PAPER = "#1f2430", "#5c6270", "#e3e0d8", "#fcfbf8"
SEEN, IMAGINED, OLD, REACHED = "#0072B2", "#D55E00", "#E9B896", "#009E73"
COSTS = "viridis_r"  # pale is near the goal
MILLISECONDS, LAST_MILLISECONDS = 140, 2500


class Curve(NamedTuple):
    """Latent distances over environment steps.

    Attributes:
        steps: (points,).
        values: (points,).
    """

    steps: np.ndarray
    values: np.ndarray


def landscape_png(landscape: Landscape, *, title: str = "") -> bytes:
    """Draws a landscape beside start and goal, and beside the true one where that is known."""
    has_truth = landscape.true_distances is not None
    figure = Figure(
        figsize=(13.2 if has_truth else 8.6, 5.2), facecolor=PAPER, layout="constrained"
    )
    widths = [0.42, 1, 1] if has_truth else [0.42, 1]
    grid = figure.add_gridspec(2, len(widths), width_ratios=widths)
    _show(figure.add_subplot(grid[0, 0]), landscape.start_frame, "camera now")
    _show(figure.add_subplot(grid[1, 0]), landscape.goal_frame, "goal image")
    held = f"one action held for {landscape.num_steps} steps"
    held = "the first action" if landscape.num_steps == 1 else held
    _heat(
        figure, figure.add_subplot(grid[:, 1]), landscape, landscape.costs,
        title="As the world model imagines it", label="imagined cost",
    )  # fmt: skip
    if landscape.true_distances is not None:
        _heat(
            figure, figure.add_subplot(grid[:, 2]), landscape, landscape.true_distances,
            title="As the simulator knows it", label="true distance to the goal",
        )  # fmt: skip
    figure.suptitle(title or f"Energy landscape: {held}", color=INK, fontsize=14, weight="bold")
    figure.supxlabel(_numbers(landscape), color=MUTED, fontsize=10.5)
    return _png(figure)


def episode_gif(
    frames: Sequence[np.ndarray],
    goals: Sequence[np.ndarray],
    goal_indices: Sequence[int],
    *,
    seen: Curve,
    plans: Sequence[Curve],
    reached_distance: float | None,
    verdict: str,
    is_success: bool,
) -> bytes:
    """Draws an episode: the camera, the goal, and the distance as seen and as imagined.

    Args:
        frames: what the camera saw, steps + 1.
        goals: the goal images.
        goal_indices: which of them was pursued, for each frame.
        seen: latent distance to the goal, where it was measured.
        plans: for each plan, the distance that it imagined; its first step is when it was made.
        reached_distance: drawn as a line; None: no line.
        verdict: said on the last picture.
        is_success: how it ended.
    """
    film = _Film(frames, goals, seen, plans, reached_distance)
    pictures = []
    for step in range(len(frames)):
        is_end = step == len(frames) - 1
        said = verdict if is_end else f"step {step} of {len(frames) - 1}"
        colour = (REACHED if is_success else IMAGINED) if is_end else MUTED
        pictures.append(film.picture(step, goal_indices[step], said, colour))
    return _gif(pictures)


class _Film:
    """One figure whose parts change from picture to picture."""

    def __init__(
        self,
        frames: Sequence[np.ndarray],
        goals: Sequence[np.ndarray],
        seen: Curve,
        plans: Sequence[Curve],
        reached_distance: float | None,
    ) -> None:
        self.frames, self.goals, self.seen, self.plans = frames, goals, seen, plans
        self.figure = Figure(figsize=(10.4, 3.5), dpi=80, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self.camera = _show(self.figure.add_axes((0.015, 0.1, 0.28, 0.76)), frames[0], "camera")
        self.goal = _show(self.figure.add_axes((0.315, 0.1, 0.28, 0.76)), goals[0], "goal")
        self.axes = self.figure.add_axes((0.67, 0.17, 0.315, 0.69))
        self.said = self.figure.text(0.015, 0.025, "", fontsize=11, weight="bold")
        self._draw_axes(reached_distance)

    def picture(self, step: int, goal_index: int, said: str, colour: str) -> Image.Image:
        """Draws what is known at a step."""
        self.camera.set_data(self.frames[step])
        self.goal.set_data(self.goals[goal_index])
        if len(self.goals) > 1:
            name = f"goal {goal_index + 1} of {len(self.goals)}"
            self.goal.axes.set_title(name, color=INK, fontsize=11)
        is_past = self.seen.steps <= step
        self.line.set_data(self.seen.steps[is_past], self.seen.values[is_past])
        made = [plan for plan in self.plans if plan.steps[0] <= step]
        for line, plan in zip(self.plan_lines, self.plans, strict=True):
            is_newest = bool(made) and plan is made[-1]
            line.set_visible(any(plan is one for one in made))
            line.set(color=IMAGINED if is_newest else OLD, linewidth=2.2 if is_newest else 1.1)
        self.now.set_xdata([step, step])
        self.said.set(text=said, color=colour)
        self.canvas.draw()
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3].copy())

    def _draw_axes(self, reached_distance: float | None) -> None:
        axes, last = self.axes, len(self.frames) - 1
        _paint(axes)
        self.plan_lines = [axes.plot(*plan, color=OLD)[0] for plan in self.plans]
        (self.line,) = axes.plot([], [], color=SEEN, linewidth=2.4, marker="o", markersize=3.5)
        self.now = axes.axvline(0, color=MUTED, linewidth=0.8, alpha=0.6)
        tops = [self.seen.values, *(plan.values for plan in self.plans)]
        top = max((float(np.nanmax(values)) for values in tops if len(values)), default=1.0)
        axes.set_xlim(-0.3, max(last, 1) + 0.5)
        axes.set_ylim(0, 1.4 * max(top, reached_distance or 0, 1e-6))
        axes.set_xlabel("step")
        axes.set_title("latent distance to the goal", color=INK, fontsize=11)
        handles = [self.line, *axes.plot([], [], color=IMAGINED, linewidth=2.2)]
        names = ["seen", "imagined by the plan"]
        if reached_distance is not None:
            handles.append(axes.axhline(reached_distance, color=REACHED, linestyle="--"))
            names.append("counts as reached")
        legend = axes.legend(handles, names, fontsize=8.5, loc="upper right", framealpha=0.9)
        legend.get_frame().set(facecolor=PAPER, edgecolor="none")


def _heat(
    figure: Figure, axes: Axes, landscape: Landscape, values: np.ndarray, *, title: str, label: str
) -> None:
    """Draws one map; y grows upwards unless the dimension is called y or dy, as in pictures."""
    first, second = landscape.first, landscape.second
    known = np.ma.masked_invalid(values)
    mesh = axes.pcolormesh(first, second, known, cmap=COSTS, shading="nearest")
    if values is landscape.costs and landscape.is_flat:
        # Differences that mean nothing must not fill the scale of colours.
        middle, span = float(known.mean()), max(MIN_RELIEF * landscape.step_distance, 1e-9)
        mesh.set_clim(middle - span / 2, middle + span / 2)
    elif np.ptp(values[np.isfinite(values)]) > 0:
        axes.contour(first, second, values, levels=8, colors="white", linewidths=0.6, alpha=0.7)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.86, pad=0.02)
    bar.set_label(label, color=MUTED)
    bar.ax.tick_params(colors=MUTED)
    axes.axhline(0, color=INK, linewidth=0.5, alpha=0.5)
    axes.axvline(0, color=INK, linewidth=0.5, alpha=0.5)
    halo = [withStroke(linewidth=4.5, foreground="white")]
    axes.plot(*landscape.best_action, "o", color="none", markersize=17, markeredgecolor=IMAGINED,
              markeredgewidth=2.6, label="lowest imagined cost", clip_on=False, zorder=5,
              path_effects=halo)  # fmt: skip
    if (truth := landscape.truly_best_action) is not None:
        axes.plot(*truth, "*", color=INK, markersize=10, label="truly nearest", clip_on=False,
                  zorder=6)  # fmt: skip
    axes.set_xlabel(f"{landscape.names[0]} ({landscape.units[0]})")
    is_down = landscape.names[1] in ("y", "dy")
    axes.set_ylabel(f"{landscape.names[1]} ({landscape.units[1]}{', down' if is_down else ''})")
    if is_down:
        axes.invert_yaxis()
    axes.set_title(title, color=INK, fontsize=11.5)
    _paint(axes)
    axes.grid(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=9.5,
                frameon=False, labelcolor=INK)  # fmt: skip


def _numbers(landscape: Landscape) -> str:
    parts = [
        f"lowest {landscape.costs[np.isfinite(landscape.costs)].min():.3g}",
        f"now {landscape.start_distance:.3g}",
        f"relief {landscape.relief:.2g} typical steps" + (" (flat!)" if landscape.is_flat else ""),
    ]
    if (correlation := landscape.rank_correlation) is not None:
        parts.append(f"rank correlation with the true distance {correlation:.2f}")
    return "   ·   ".join(parts)


def _show(axes: Axes, image: np.ndarray, title: str):  # noqa: ANN202
    axes.set_title(title, color=INK, fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(MUTED)
    return axes.imshow(image, interpolation="nearest")


def _paint(axes: Axes) -> None:
    axes.set_facecolor(PAPER)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, facecolor=PAPER, metadata={"Software": None})
    return file.getvalue()


def _gif(pictures: Sequence[Image.Image]) -> bytes:
    middle = pictures[len(pictures) // 2]
    palette = _stacked([pictures[0], middle, pictures[-1]]).quantize(200)
    images = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [MILLISECONDS] * (len(images) - 1) + [LAST_MILLISECONDS]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))
