"""Pieces of our HTML pages: pictures that are part of the page, tables, numbers with their value.

What comes in as text is escaped here; arguments that are HTML already say so.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jepa.evaluation.report.charts import (
    DARK,
    LIGHT,
    SHARPNESS,
    Theme,
    image_strip,
    png_bytes,
)

MAX_EXACT_SIDE = 96  # pixels; a picture that is larger is a JPEG
MAX_PHOTO_SIDE, JPEG_QUALITY = 192, 82


def themed(draw: Callable[[Theme], bytes], description: str) -> str:
    """A chart in two colour schemes; the reader's browser chooses."""
    return picture_pair(draw(LIGHT), draw(DARK), description)


def picture_pair(light: bytes, dark: bytes, description: str) -> str:
    """A chart, drawn for a light and for a dark page; the reader's browser chooses."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark, "png")}">'
        f"{image(light, description, sharpness=SHARPNESS)}</picture>"
    )


def image(
    content: bytes,
    description: str,
    *,
    kind: str = "png",
    sharpness: int = 1,
    pixelated: bool = False,
) -> str:
    """A picture inside the page, with its size and a text for those who do not see it.

    Args:
        content: the file.
        description: the text, escaped here.
        kind: "png", "gif" or "jpeg".
        sharpness: pixels of the file per pixel of the page.
        pixelated: enlarge without smoothing.
    """
    width, height = _size(content)
    style = ' class="pixelated"' if pixelated else ""
    return (
        f'<img src="{data_uri(content, kind)}" alt="{escape(description)}" '
        f'width="{width // sharpness}" height="{height // sharpness}"{style}>'
    )


def _size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.size


def data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds it: nothing is fetched."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def grid(
    panels: Sequence[str], caption: str, *, size: str = "small", absent: str = "this picture"
) -> str:
    """Pictures in as many columns as fit, with a caption (HTML)."""
    shown = [f"<div>{panel}</div>" for panel in panels if panel]
    if not shown:
        return missing(absent)
    return (
        f'<figure><div class="grid {size}">{"".join(shown)}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def strip_row(name: str, images: np.ndarray) -> str:
    """Images (k, h, w, 3) side by side under their name."""
    picture = image(image_strip(images, height=128), name, pixelated=True)
    return f'<div class="strip"><span>{escape(name)}</span>{picture}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table whose cells, those of the head too, are HTML already."""
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    below = f'<p class="caption">{caption}</p>\n' if caption else ""
    return (
        f'<div class="scroll"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n{below}"
    )


def missing(what: str) -> str:
    """Says that there is none of this, in words."""
    return f'<p class="missing">This run recorded no {escape(what)}.</p>\n'


def tag(text: str, outcome: str) -> str:
    """A short word in a box; `outcome` is "success" or "failure", or empty."""
    return f'<span class="tag {outcome}">{text}</span>'


def value_text(value: Any) -> str:  # noqa: ANN401
    """A number with a rounded face, anything else as text."""
    if value is None:
        return "none"
    if isinstance(value, float) or is_number(value):
        return number(value)
    return escape(str(value))


def number(value: Any) -> str:  # noqa: ANN401
    """A number with a rounded face and its exact value."""
    if not is_number(value):
        return "not a number"
    return f'<data value="{json.dumps(value)}">{rounded(value)}</data>'


def rounded(value: float) -> str:
    """A number to three digits, whole numbers whole.

    >>> [rounded(value) for value in (64, 0.12345, 12.345, 1234.5, 0.6)]
    ['64', '0.123', '12.3', '1,234', '0.6']
    """
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"


def is_number(value: Any) -> bool:  # noqa: ANN401
    """True for a finite number that is not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(rate: float) -> str:
    """A share as a whole percentage, with its exact value."""
    return f'<data value="{json.dumps(rate)}">{100 * rate:.0f}&nbsp;%</data>'


def photo(frame: np.ndarray, description: str) -> str:
    """A video frame (height, width, 3) uint8: exact if it is small, else as JPEG.

    What is larger than `MAX_PHOTO_SIDE` pixels is made smaller, so that a page stays small.
    """
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if max(picture.size) <= MAX_EXACT_SIDE:
        return image(png_bytes(picture), description, pixelated=True)
    picture.thumbnail((MAX_PHOTO_SIDE, MAX_PHOTO_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return image(file.getvalue(), description, kind="jpeg")


class Bar(NamedTuple):
    """One bar of `bar_chart`.

    Attributes:
        name: what it is, not HTML.
        value: its length.
        low: lower end of its interval; None if there is none.
        high: upper end.
        note: a few words beside the name.
        is_ours: in colour, the others grey.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    is_ours: bool = False


def bar_chart(bars: Sequence[Bar], caption: str, *, unit: str = "") -> str:
    """Bars from 0 with the intervals as thin lines, the longest as wide as there is room.

    Args:
        bars: values below 0 have no length; their number is told all the same.
        caption: HTML.
        unit: after each number.
    """
    ends = [end for bar in bars for end in (bar.value, bar.high) if end is not None]
    longest = max([*ends, 1e-12])
    rows = "".join(_bar(bar, longest, unit) for bar in bars)
    chart = f'<div class="bars measured">{rows}</div>'
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>\n"


def _bar(bar: Bar, longest: float, unit: str) -> str:
    def share(value: float) -> float:
        return 100 * min(max(value / longest, 0.0), 1.0)

    whisker, interval = "", ""
    if bar.low is not None and bar.high is not None:
        left, right = share(bar.low), share(bar.high)
        whisker = (
            f'<span class="whisker" style="left:{left:.2f}%;width:{right - left:.2f}%"></span>'
        )
        interval = f"<small>{number(bar.low)} to {number(bar.high)}</small>"
    return (
        f'<div class="bar{" ours" if bar.is_ours else ""}"><span class="name">{escape(bar.name)} '
        f'<small>{escape(bar.note)}</small></span><span class="track"><span class="fill" '
        f'style="width:{share(bar.value):.2f}%"></span>{whisker}</span><span class="value"><b>'
        f"{number(bar.value)}{escape(unit)}</b> {interval}</span></div>"
    )


def player(columns: Sequence[str], steps: Sequence[tuple[str, Sequence[str]]], caption: str) -> str:
    """Pictures that a slider goes through; on paper and without a script all below one another.

    Args:
        columns: what is to be seen side by side, not HTML.
        steps: of each its name, not HTML, and a picture a column, HTML.
        caption: HTML.
    """
    heads = "".join(f"<span>{escape(column)}</span>" for column in columns)
    rows = "".join(
        f'<div class="step" data-name="{escape(name)}">{"".join(pictures)}</div>'
        for name, pictures in steps
    )
    return (
        f'<figure class="player" style="--columns:{len(columns)}"><div class="columns">{heads}'
        f'</div>{rows}<div class="controls"><button type="button">Play</button><input '
        f'type="range" min="0" max="{len(steps) - 1}" value="0" step="1" aria-label="time">'
        f"<output></output></div><figcaption>{caption}</figcaption></figure>\n"
    )


def picture_rows(rows: Sequence[tuple[str, Sequence[str]]], caption: str) -> str:
    """Rows of small pictures (HTML), each under or beside its name."""
    body = "".join(
        f'<div class="row"><span>{escape(name)}</span><span class="cells">{"".join(pictures)}'
        "</span></div>"
        for name, pictures in rows
    )
    return f'<figure><div class="rows">{body}</div><figcaption>{caption}</figcaption></figure>\n'
