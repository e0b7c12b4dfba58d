"""What the charts of our HTML pages have in common: themes, axes, pictures as PNG.

Charts are drawn for a `Theme`, transparent, so that a page can hold a light and a dark version of
each. Nothing here reads a file or keeps a state.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image


@dataclass(frozen=True)
class Theme:
    """The colours of a chart, as CSS writes them."""

    paper: str
    ink: str
    muted: str
    grid: str
    accent: str
    contrast: str
    good: str
    bad: str


LIGHT = Theme(
    paper="#fcfbf8",
    ink="#1f2430",
    muted="#666c7a",
    grid="#e3e0d8",
    accent="#1f5fa8",
    contrast="#d2571e",
    good="#2a8552",
    bad="#c0342b",
)
DARK = Theme(
    paper="#14171d",
    ink="#e7e5df",
    muted="#9aa0ae",
    grid="#2d323d",
    accent="#6aa9f0",
    contrast="#f2945a",
    good="#57bd86",
    bad="#f07062",
)


# Near or cheap is pale, far or expensive is deep blue, in both themes.
NEAR_TO_FAR = LinearSegmentedColormap.from_list(
    "near to far", ["#fff6d3", "#f5d88c", "#93c8a6", "#4598b0", "#2b6098", "#232f60"]
)
ON_HEAT, HALO = "#161a24", "#ffffff"  # a line over the heat map and its outline
PIXELS_PER_INCH = 100
SHARPNESS = 2  # pixels of the PNG per pixel of the page


def pca_colours(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Colours features by their first three principal components, one basis for all frames.

    The same feature has the same colour in every frame; a component's range is cut at its 2nd
    and 98th percentile over all frames.

    Args:
        features: (time, height, width, dim).

    Returns:
        Colours (time, height, width, 3) uint8, and the share of the variance that they show.
    """
    flat = np.nan_to_num(features.reshape(-1, features.shape[-1]).astype(np.float64))
    flat = flat - flat.mean(0)
    variances, axes = np.linalg.eigh(flat.T @ flat)
    axes, variances = axes[:, ::-1][:, :3], np.clip(variances[::-1], 0, None)
    axes = axes * np.where(axes.sum(0) < 0, -1, 1)  # a component's sign is free: fix it
    components = np.zeros((len(flat), 3))
    components[:, : axes.shape[1]] = flat @ axes
    low, high = np.percentile(components, (2, 98), axis=0)
    colours = np.clip((components - low) / np.where(high > low, high - low, 1), 0, 1)
    share = float(variances[:3].sum() / variances.sum()) if variances.sum() > 0 else 0.0
    return (colours * 255).round().astype(np.uint8).reshape(*features.shape[:-1], 3), share


def image_png(image: np.ndarray, *, scale: int = 1) -> bytes:
    """One image (height, width, 3 or 4) uint8 as PNG, each pixel a square of `scale`."""
    return png_bytes(Image.fromarray(enlarged(image, scale)))


def image_strip(images: np.ndarray, *, height: int = 64, gap: int = 4) -> bytes:
    """Images (k, h, w, 3) side by side as PNG, enlarged to `height`, with clear gaps between."""
    scale = max(1, height // images.shape[1])
    large = [enlarged(image, scale) for image in images]
    h, w = large[0].shape[:2]
    strip = np.zeros((h, len(large) * (w + gap) - gap, 4), np.uint8)
    for index, image in enumerate(large):
        left = index * (w + gap)
        strip[:, left : left + w] = np.dstack([image, np.full((h, w), 255, np.uint8)])
    return png_bytes(Image.fromarray(strip))


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel of an image (height, width, channels) as a square of `scale`."""
    return np.ascontiguousarray(image.repeat(scale, 0).repeat(scale, 1))


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a small PNG."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def empty_chart(width: int, height: int, theme: Theme) -> tuple[Figure, Axes]:
    """An empty chart of this size in pixels of the page."""
    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    paint(axes, theme)
    return figure, axes


def paint(axes: Axes, theme: Theme) -> None:
    """Gives axes the colours of a theme, and two spines."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
        spine.set_linewidth(0.8)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=9, length=3)
    axes.xaxis.label.set(color=theme.muted, fontsize=9.5)
    axes.yaxis.label.set(color=theme.muted, fontsize=9.5)


def put_title(axes: Axes, text: str, theme: Theme) -> None:
    """Writes a title over axes."""
    axes.set_title(text, color=theme.ink, fontsize=11.5, fontweight="bold", pad=9)


def paint_colour_bar(bar: Colorbar, *, theme: Theme, name: str) -> None:
    """Gives a colour bar the colours of a theme, few ticks and a name."""
    bar.outline.set(visible=False)  # pyright: ignore[reportCallIssue]
    bar.locator = MaxNLocator(6)
    bar.ax.tick_params(colors=theme.muted, length=0, labelsize=9)
    bar.set_label(name, color=theme.muted, fontsize=9.5)


def hide_axes(axes: Axes) -> None:
    """Leaves of the axes what is drawn in them."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def put_legend(axes: Axes, theme: Theme, *, place: Literal["lower right", "upper right"]) -> None:
    """Adds a legend inside the axes."""
    paint_legend(axes.legend(loc=place, fontsize=9, framealpha=0.85), theme)


def paint_legend(legend: Any, theme: Theme) -> None:  # noqa: ANN401
    """Gives a legend the colours of a theme."""
    legend.get_frame().set(facecolor=theme.paper, edgecolor="none")
    for text in legend.get_texts():
        text.set_color(theme.ink)


def chart_png(figure: Figure, *, paper: str = "none", sharpness: int = SHARPNESS) -> bytes:
    """A chart as PNG, transparent unless there is paper; the same bytes each time."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(
        file,
        format="png",
        dpi=PIXELS_PER_INCH * sharpness,
        facecolor=paper,
        metadata={"Software": None},
    )
    return file.getvalue()
