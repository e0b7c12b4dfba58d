"""The picture of a contact sheet: rows of frames, what is known of them on the left.

Sizes are in pixels, and grow with nothing but the number of rows and frames.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipelines.contact_sheet_rows import Columns, Row
from data_pipelines.transforms import CropBox

MARGIN, GAP = 16, 6
LEFT_WIDTH = 300  # of the column of words
SHORT_SIDE, LONGEST_SIDE = 128, 228  # of a frame as it is shown
LEAST_WIDTH = 640  # of the frames' column, so that reasons and plots have room
REASON_WIDTH = 900  # at most
LINE = 17  # from one line of words to the next
PLOT_LINE = 15  # of a plot's legend
MOST_COLUMNS = 10  # in a plot
WHITE, BLACK, GREY, PALE = (255, 255, 255), (25, 25, 28), (115, 115, 122), (226, 226, 230)
RED, PALE_RED, YELLOW = (176, 22, 22), (253, 236, 236), (255, 214, 10)
CROP_COLOURS = (YELLOW, (0, 220, 255), (255, 90, 220), (90, 240, 90), (255, 130, 40), WHITE)
PLOT_COLOURS = (
    (31, 119, 180),
    (214, 96, 14),
    (44, 140, 44),
    (190, 35, 40),
    (130, 90, 180),
    (125, 80, 70),
    (205, 95, 175),
    (95, 95, 95),
    (140, 140, 20),
    (15, 150, 165),
)

Colour = tuple[int, int, int]


def draw_sheet(rows: Sequence[Row], *, title: str, about: Sequence[str]) -> Image.Image:
    """Returns the picture.

    Args:
        rows: from top to bottom.
        title: the first line; shortened if it does not fit.
        about: more lines below it.
    """
    width = 2 * MARGIN + LEFT_WIDTH + max(LEAST_WIDTH, *(_frames_width(row) for row in rows))
    head = MARGIN + 24 + LINE * len(about) + GAP
    heights = [_row_height(row, width) for row in rows]
    picture = Image.new("RGB", (width, head + sum(heights)), WHITE)
    draw = ImageDraw.Draw(picture)
    room = width - 2 * MARGIN
    draw.text(
        (MARGIN, MARGIN), shortened(title, _font(16, bold=True), room), BLACK, _font(16, True)
    )
    for number, line in enumerate(about):
        place = (MARGIN, MARGIN + 24 + LINE * number)
        draw.text(place, shortened(line, _font(13), room), GREY, _font(13))
    top = head
    for row, height in zip(rows, heights, strict=True):
        draw.line((MARGIN, top, width - MARGIN, top), PALE)
        _draw_row(picture, draw, row, top + GAP + 4)
        top += height
    return picture


def png_bytes(picture: Image.Image) -> bytes:
    """Returns a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def frame_size(height: int, width: int) -> tuple[int, int]:
    """Returns height and width of a frame as it is shown: its shape, of a size that fits a row."""
    scale = min(SHORT_SIDE / min(height, width), LONGEST_SIDE / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Returns a text, without its middle if it is wider than the room."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if font.getlength(text) <= room:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(_without_middle(text, kept)) > room:
        kept -= 1
    return _without_middle(text, kept)


def wrapped(text: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Returns a text as lines that fit the room; a word that does not is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(shortened(word, font, room))
    return lines


def framed(pixels: np.ndarray, boxes: Sequence[CropBox]) -> Image.Image:
    """Returns a frame as it is shown: small, outside all crops darker, each crop's edge drawn.

    Args:
        pixels: (height, width, 3), uint8.
        boxes: the crops, in the frame's own pixels; the first is drawn on top of the others.
    """
    height, width = frame_size(*pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    if not boxes:
        return small
    shown = [shown_crop(box, pixels.shape[0], pixels.shape[1]) for box in boxes]
    picture = small.point([round(level * 0.5) for level in range(256)] * 3)
    for left, top, right, bottom in shown:
        inside = (left, top, right + 1, bottom + 1)
        picture.paste(small.crop(inside), inside[:2])
    draw = ImageDraw.Draw(picture)
    for edges, colour in reversed([*zip(shown, CROP_COLOURS, strict=False)]):
        draw.rectangle(edges, outline=colour, width=2)
    return picture


def shown_crop(crop: CropBox, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of a crop in the small frame, the last two inside it.

    Args:
        crop: in a frame's own pixels.
        height: of the frame.
        width: of the frame.
    """
    shown_height, shown_width = frame_size(height, width)
    down, across = shown_height / height, shown_width / width
    left, top = round(crop.left * across), round(crop.top * down)
    right = round((crop.left + crop.width) * across) - 1
    bottom = round((crop.top + crop.height) * down) - 1
    return left, top, max(right, left), max(bottom, top)


def _without_middle(text: str, kept: int) -> str:
    behind = kept // 2
    return f"{text[: kept - behind]}…{text[len(text) - behind :]}"


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns the font that matplotlib brings: it has more letters than Pillow's own."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


def _frames_width(row: Row) -> int:
    count = len(row.pixels)
    return count * frame_size(*row.pixels.shape[1:3])[1] + (count - 1) * GAP if count else 0


def _words(row: Row) -> list[str]:
    """Returns what is known of a clip, in lines below its key."""
    lines = [row.label] if row.label else []
    if row.metadata is not None:
        about = row.metadata
        lines.append(f"{about.width} x {about.height} pixels")
        if about.num_frames > 1:
            lines.append(
                f"{about.frames_per_second:.4g} frames/s, {about.duration_seconds:.2f} s, "
                f"{about.num_frames} frames"
            )
    if len(row.pixels) and row.span_seconds[1] > 0:
        lines.append(f"clip {row.span_seconds[0]:.2f} to {row.span_seconds[1]:.2f} s")
    return lines


def _words_of_crops(row: Row) -> list[str]:
    """Returns a line for each crop, to stand behind a square of its colour."""
    return [
        f"crop {crop.box.width} x {crop.box.height}{', mirrored' if crop.is_mirrored else ''}"
        for crop in row.crops
    ]


def _reason_lines(row: Row, width: int) -> list[str]:
    room = min(width - 2 * MARGIN - LEFT_WIDTH, REASON_WIDTH) - 24
    return wrapped(row.reason or "", _font(13), room)


def _row_height(row: Row, width: int) -> int:
    if row.reason is not None:
        content = 20 + LINE * len(_reason_lines(row, width))
    else:
        content = frame_size(*row.pixels.shape[1:3])[0] + LINE
    height = max(_words_height(row), content) + 2 * GAP + 8
    return height + sum(_plot_height(columns) + GAP for columns in row.columns)


def _words_height(row: Row) -> int:
    return LINE * (1 + len(_words(row)) + len(row.crops))


def _draw_row(picture: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    _draw_words(draw, row, top)
    if row.reason is not None:
        _draw_reason(draw, row, top, picture.width)
        return
    places = _draw_frames(picture, draw, row, top)
    below = top + max(_words_height(row), frame_size(*row.pixels.shape[1:3])[0] + LINE) + GAP
    for columns in row.columns:
        _draw_plot(draw, columns, below, times=row.timestamps_seconds, places=places)
        below += _plot_height(columns) + GAP


def _draw_words(draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    """Draws what is known of a clip, and below it which colour is which crop."""
    room, bold, plain = LEFT_WIDTH - 20, _font(13, bold=True), _font(12)
    colour = BLACK if row.reason is None else RED
    draw.text((MARGIN, top), shortened(row.key, bold, room), colour, bold)
    line = top
    for words in _words(row):
        line += LINE
        draw.text((MARGIN, line), shortened(words, plain, room), GREY, plain)
    for words, colour in zip(_words_of_crops(row), CROP_COLOURS, strict=False):
        line += LINE
        draw.rectangle((MARGIN, line + 3, MARGIN + 9, line + 12), colour, GREY)
        draw.text((MARGIN + 15, line), words, GREY, plain)


def _draw_reason(draw: ImageDraw.ImageDraw, row: Row, top: int, width: int) -> None:
    lines = _reason_lines(row, width)
    left, bottom = MARGIN + LEFT_WIDTH, top + 18 + LINE * len(lines)
    right = min(width - MARGIN, left + REASON_WIDTH)
    draw.rectangle((left, top, right, bottom), PALE_RED, RED)
    for number, line in enumerate(lines):
        draw.text((left + 12, top + 8 + LINE * number), line, RED, _font(13))


def _draw_frames(
    picture: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int
) -> list[float]:
    """Draws the frames and their times; returns where the middle of each is."""
    left, places = MARGIN + LEFT_WIDTH, []
    for pixels, seconds in zip(row.pixels, row.timestamps_seconds, strict=True):
        frame = framed(pixels, [crop.box for crop in row.crops])
        picture.paste(frame, (left, top))
        middle = left + frame.width / 2
        if row.metadata is None or row.metadata.num_frames > 1:  # a picture has no time
            text = f"{seconds:.2f} s" if frame.width >= 48 else f"{seconds:.1f}"
            draw.text((middle, top + frame.height + 2), text, GREY, _font(11), anchor="ma")
        places.append(middle)
        left += frame.width + GAP
    return places


def _plot_height(columns: Columns) -> int:
    num_lines = min(len(columns.names), MOST_COLUMNS) + (len(columns.names) > MOST_COLUMNS)
    return max(PLOT_LINE * (1 + num_lines) + 4, 56)


def _draw_plot(
    draw: ImageDraw.ImageDraw,
    columns: Columns,
    top: int,
    *,
    times: np.ndarray,
    places: list[float],
) -> None:
    """Draws columns over time below the frames that show the same moments."""
    small, height = _font(11), _plot_height(columns)
    left = MARGIN + LEFT_WIDTH
    right = places[-1] + (places[0] - left)  # where the last frame ends
    draw.text((MARGIN, top), columns.title, BLACK, _font(11, bold=True))
    draw.rectangle((left, top, right, top + height - 2), outline=PALE)
    for place in places:
        draw.line((place, top + 1, place, top + height - 3), PALE)
    for number, name in enumerate(columns.names[:MOST_COLUMNS]):
        colour, values = PLOT_COLOURS[number], columns.values[:, number]
        line = top + PLOT_LINE * (number + 1)
        draw.rectangle((MARGIN, line + 3, MARGIN + 8, line + 11), colour)
        text = f"{name} [{columns.units[number]}]  {_range(values)}"
        draw.text((MARGIN + 14, line), shortened(text, small, LEFT_WIDTH - 34), BLACK, small)
        across = np.interp(columns.times, times, places) if len(places) > 1 else places * len(times)
        _draw_curve(draw, across, values, top=top + 6, bottom=top + height - 8, colour=colour)
    if len(columns.names) > MOST_COLUMNS:
        line = top + PLOT_LINE * (MOST_COLUMNS + 1)
        text = f"and {len(columns.names) - MOST_COLUMNS} more"
        draw.text((MARGIN + 14, line), text, GREY, small)


def _draw_curve(
    draw: ImageDraw.ImageDraw,
    across: Sequence[float] | np.ndarray,
    values: np.ndarray,
    *,
    top: int,
    bottom: int,
    colour: Colour,
) -> None:
    """Draws one column from its least value (bottom) to its greatest (top)."""
    low, high = float(values.min()), float(values.max())
    part = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    points = [
        (float(x), bottom - float(y) * (bottom - top)) for x, y in zip(across, part, strict=False)
    ]
    if len(points) > 1:
        draw.line(points, colour, width=2, joint="curve")
    for x, y in points:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour)


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"
