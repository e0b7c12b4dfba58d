"""What the patch tokens of a video show: their first three principal components as colours."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.report.charts import image_png, pca_colours
from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import image, photo, player
from jepa.evaluation.report.section import Section
from jepa.evaluation.report.subject import Subject
from jepa.models import LatentWorldModel, VideoEncoder

NUM_CLIPS = 2
MAX_STEPS = 16  # times of a clip that are shown


def feature_map_section(subject: Subject, clips: HeldOutClips) -> Section:
    """Returns clips beside their feature maps, by the encoder and by its untrained twin."""
    chosen = np.unique(np.linspace(0, len(clips.video) - 1, NUM_CLIPS).round().astype(int))
    html, shares = "", []
    for index in chosen:
        video = clips.video[index]
        maps = [
            token_maps(subject, encoder, video)
            for encoder in (subject.model.encoder, subject.untrained_encoder)
        ]
        player_html, two_shares = _player(video, maps, clips.keys[index])
        html += player_html
        shares.append(two_shares)
    trained, untrained = np.mean(shares, axis=0).tolist()
    numbers = {"variance_share": trained, "variance_share_untrained": untrained}
    return Section(f"{_INTRODUCTION}{html}{_CAPTION}", numbers)


@torch.inference_mode()
def token_maps(subject: Subject, encoder: Any, video: Tensor) -> np.ndarray:  # noqa: ANN401
    """Encodes a clip (3, time, height, width) uint8: (times, rows, columns, dim), float32.

    A world model's encoder sees each frame on its own, another one the clip as a whole.
    """
    batch = video[None].to(subject.device)
    height, width = encoder.grid[1:]
    if isinstance(subject.model, LatentWorldModel) or not isinstance(encoder, VideoEncoder):
        tokens = encoder.encode_frames(batch)[0]  # (time, patches, dim)
    else:
        tokens = encoder(batch)[0].unflatten(0, (-1, height * width))
    return tokens.unflatten(1, (height, width)).float().cpu().numpy()


def _player(video: Tensor, maps: list[np.ndarray], key: str) -> tuple[str, tuple[float, float]]:
    (trained, share), (untrained, twin_share) = (pca_colours(features) for features in maps)
    frames = video.permute(1, 2, 3, 0).numpy()
    stride = len(frames) // len(trained)
    steps = []
    for time in range(min(len(trained), MAX_STEPS)):
        name = f"frame {time * stride + 1} of {len(frames)}"
        pictures = [photo(frames[time * stride], f"{key}, {name}")]
        for words, colours in (("trained", trained), ("untrained", untrained)):
            described = f"feature map of {name} by the {words} encoder"
            pictures.append(image(image_png(colours[time]), described, pixelated=True))
        steps.append((name, pictures))
    columns = [
        "video",
        f"trained encoder ({100 * share:.0f} % of the variance)",
        f"untrained encoder ({100 * twin_share:.0f} %)",
    ]
    return player(columns, steps, escape(key)), (share, twin_share)


_INTRODUCTION = (
    "<p>Each patch is coloured by the first three principal components of its tokens, fitted on "
    "all frames of the clip: what has one colour is alike to the encoder.</p>\n"
)
_CAPTION = (
    '<p class="caption">Things should have a colour of their own that goes with them from frame to '
    "frame. It would be bad if the trained map were noise, one flat colour, the same in every "
    "frame whatever moves, or no better than the untrained one.</p>\n"
)
