"""An episode beside its goal, as a GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

MIN_SIDE, LINE = 192, 18
MILLISECONDS, LAST_MILLISECONDS = 100, 2000
PAPER, INK, REACHED, MISSED = "#fcfbf8", "#1f2430", "#00694c", "#a83f00"


def film(
    frames: Sequence[np.ndarray], goal: np.ndarray, *, verdict: str, is_success: bool
) -> bytes:
    """Returns the GIF.

    Args:
        frames: (height, width, 3) uint8, steps + 1.
        goal: the goal's frame, of the same size.
        verdict: said on the last picture; what colour says is said in words too.
        is_success: how it ended.
    """
    pictures = []
    for step, frame in enumerate(frames):
        is_end = step == len(frames) - 1
        said = f"step {step} of {len(frames) - 1}"
        if is_end:
            said = f"{'success' if is_success else 'no success'}, {verdict}"
        colour = (REACHED if is_success else MISSED) if is_end else INK
        pictures.append(_picture(frame, goal, said, colour))
    palette = _stacked([pictures[0], pictures[-1]]).quantize(200)
    images = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [MILLISECONDS] * (len(images) - 1) + [LAST_MILLISECONDS]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return file.getvalue()


def _picture(frame: np.ndarray, goal: np.ndarray, said: str, colour: str) -> Image.Image:
    side = max(MIN_SIDE, frame.shape[0])
    picture = Image.new("RGB", (2 * side + 8, side + 2 * LINE), PAPER)
    draw = ImageDraw.Draw(picture)
    for left, image, title in ((0, frame, "camera"), (side + 8, goal, "goal")):
        shown = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        picture.paste(shown, (left, LINE))
        draw.text((left + 4, 3), title, fill=INK)
    draw.text((4, side + LINE + 3), said, fill=colour)
    return picture


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))
