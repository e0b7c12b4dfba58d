"""Imagined rollouts as pictures: a small decoder of frozen latents, trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.evaluation.report.imagination import Imagination
from jepa.evaluation.report.pieces import Bar, bar_chart, number, photo, picture_rows, table
from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.scores import Interval, bootstrap_interval
from jepa.training.pixel_decoding import draw, fit_pixel_decoder, psnr_decibels

MAX_SIDE = 64  # pixels of a drawn picture
TRAINED_SHARE = 0.75  # of the videos; the others are drawn
LEAST_VIDEOS = 8
NUM_SHOWN, MAX_SHOWN_STEPS = 3, 8
NAMES = {
    "true_latent": "true latent decoded (the most that can be)",
    "imagined": "imagined latent decoded",
    "current": "current latent decoded (nothing changes)",
    "mean_frame": "mean frame",
}


@dataclass(frozen=True)
class Drawings:
    """What the decoder draws of videos that it was not trained on.

    Attributes:
        real: (clips, horizon, 3, size, size), uint8.
        drawn: the same, by name: of what.
        psnr: (clips, horizon) in decibels, by name.
    """

    real: Tensor
    drawn: dict[str, Tensor]
    psnr: dict[str, np.ndarray]

    def score(self, name: str, step: int | None = None) -> Interval:
        """Mean over clips, and over steps unless one is named, with its interval."""
        values = self.psnr[name]
        return bootstrap_interval(values.mean(1) if step is None else values[:, step])


def pixel_section(imagined: Imagination, *, num_steps: int, seed: int = 0) -> Section:
    """Returns imagined rollouts as pictures beside the real ones.

    Raises:
        NotMeasured: if no steps are wanted, or there are too few videos to keep some apart.
    """
    drawings = draw_rollouts(imagined, num_steps=num_steps, seed=seed)
    last = drawings.real.shape[1] - 1
    numbers: dict[str, Any] = {"decoder_steps": num_steps, "clips": len(drawings.real)}
    for name in NAMES:
        numbers[f"psnr_{name}"] = list(drawings.score(name))
        numbers[f"psnr_{name}_by_step"] = drawings.psnr[name].mean(0).tolist()
    gain = bootstrap_interval(
        drawings.psnr["imagined"][:, last] - drawings.psnr["current"][:, last]
    )
    numbers["psnr_gain_over_current_at_last_step"] = list(gain)
    html = (
        f"<p>A small decoder was trained for {number(num_steps)} steps to draw frames from the "
        "frozen true latents of three quarters of the videos. Here it draws the others: what "
        "came, and what the model imagined. It is to look with only; no gradient reaches the "
        "model.</p>\n"
        f"{_score_chart(drawings)}{_step_table(drawings, imagined)}{_rollouts(drawings)}"
    )
    return Section(html, numbers, (_finding(gain, imagined),))


def draw_rollouts(imagined: Imagination, *, num_steps: int, seed: int = 0) -> Drawings:
    """Trains a decoder on the latents of some videos and draws those of the others.

    Raises:
        NotMeasured: if no steps are wanted, or there are too few videos.
    """
    if num_steps < 1:
        raise NotMeasured("no decoder was wanted (--decoder-steps 0)")
    num_clips = len(imagined.latents)
    if num_clips < LEAST_VIDEOS:
        raise NotMeasured(f"a decoder needs at least {LEAST_VIDEOS} videos, there are {num_clips}")
    first = int(num_clips * TRAINED_SHARE)  # clips are of different videos
    pictures = _small(imagined.frames)  # (clips, times, 3, size, size)
    decoder = fit_pixel_decoder(
        imagined.latents[:first].flatten(0, 1),
        pictures[:first].flatten(0, 1),
        grid=imagined.grid,
        num_steps=num_steps,
        seed=seed,
    )
    real = pictures[first:, imagined.num_seen :]
    current = imagined.current[first:, None].expand_as(imagined.predicted[first:])
    latents = {
        "true_latent": imagined.true[first:],
        "imagined": imagined.predicted[first:],
        "current": current,
    }
    shape = real.shape[:2]
    drawn = {
        name: draw(decoder, part.flatten(0, 1)).unflatten(0, shape)
        for name, part in latents.items()
    }
    mean = (decoder.mean_picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    drawn["mean_frame"] = mean.expand_as(real)
    psnr = {name: psnr_decibels(part, real).double().numpy() for name, part in drawn.items()}
    return Drawings(real, drawn, psnr)


def _small(frames: np.ndarray) -> Tensor:
    """Frames (clips, times, height, width, 3) as (clips, times, 3, size, size), at most 64."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 1, 4, 2, 3)
    size = min(MAX_SIDE, *video.shape[-2:])
    if video.shape[-2:] == (size, size):
        return video
    parts = [
        F.interpolate(clip.float(), size=(size, size), mode="bilinear", antialias=True)
        for clip in video
    ]
    return torch.stack(parts).round().clamp(0, 255).to(torch.uint8)


def _score_chart(drawings: Drawings) -> str:
    bars = [
        Bar(words, *drawings.score(name), is_ours=name == "imagined")
        for name, words in NAMES.items()
    ]
    return bar_chart(
        bars,
        "Peak signal-to-noise ratio of the drawn frames, mean over all steps and over videos that "
        "the decoder did not see, with 95 % bootstrap intervals; more is better. The true latent "
        "is the upper bound: what is missing there, the decoder cannot draw. It would be bad if "
        "the imagined latent were no better than the current one.",
        unit=" dB",
    )


def _step_table(drawings: Drawings, imagined: Imagination) -> str:
    horizon = drawings.real.shape[1]
    steps = sorted({0, horizon // 2, horizon - 1})
    rows = [
        [escape(words), *(number(float(drawings.psnr[name][:, step].mean())) for step in steps)]
        for name, words in NAMES.items()
    ]
    head = [
        "PSNR (dB)",
        *(escape(imagined.ahead(step + 1)) for step in steps),
    ]
    return table(head, rows)


def _rollouts(drawings: Drawings) -> str:
    """The clips are evenly spaced over those that were kept apart."""
    num_clips, horizon = drawings.real.shape[:2]
    clips = np.unique(np.linspace(0, num_clips - 1, NUM_SHOWN).round().astype(int))
    steps = np.unique(np.linspace(0, horizon - 1, MAX_SHOWN_STEPS).round().astype(int))
    rows = {"real": drawings.real, "true latent": drawings.drawn["true_latent"],
            "imagined": drawings.drawn["imagined"]}  # fmt: skip
    shown = [
        (name, [_photo(part[clip, step], f"{name}, {step + 1} ahead") for step in steps])
        for clip in clips
        for name, part in rows.items()
    ]
    return picture_rows(
        shown,
        "Time goes to the right. The lowest row of each three is what the model imagined, drawn; "
        "the middle one is drawn from what the encoder made of the real frame.",
    )


def _photo(picture: Tensor, description: str) -> str:
    return photo(picture.permute(1, 2, 0).numpy(), description)


def _finding(gain: Interval, imagined: Imagination) -> Finding:
    text = (
        f"Drawn {imagined.ahead(imagined.horizon)} ahead, what was imagined is "
        f"{gain.value:+.2f} dB [{gain.low:.2f}, {gain.high:.2f}] nearer to what came than the "
        "current latent"
    )
    return Finding(text, gain.low > 0)
