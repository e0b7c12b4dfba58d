"""What can be surprised: a model that predicts latents, and pixels that go on as they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.models.encoder import VideoEncoder, take_tokens
from jepa.models.pixels import normalize_pixels
from jepa.models.predictor import MaskedLatentPredictor

Distance = Literal["l1", "smooth_l1", "cosine"]


class SurpriseSource(Protocol):
    """Anything that says of each frame how little it was expected."""

    def surprise(self, clips: Tensor, contexts_frames: Sequence[int]) -> Tensor:
        """Returns the surprise at each frame of clips.

        Args:
            clips: (batch, 3, time, height, width), uint8.
            contexts_frames: how many frames are shown, one number for each question.

        Returns:
            (contexts, batch, time), float32, at least 0; NaN at frames that were shown.
        """
        ...


@dataclass(frozen=True)
class LatentSurprise:
    """Distance between predicted latents and those of the target encoder, layer-normed.

    The loss of V-JEPA, asked of the future: mean |prediction - layer_norm(target)| over the places
    of a time (arXiv:2502.11831).

    Attributes:
        context_encoder: encodes the frames that are shown, and nothing else.
        predictor: predicts the latents of all later ones.
        target_encoder: encodes the whole clip.
        distance: "l1" as in the paper; "smooth_l1"; or "cosine", 1 - cosine similarity.
    """

    context_encoder: VideoEncoder
    predictor: MaskedLatentPredictor
    target_encoder: VideoEncoder
    distance: Distance = "l1"

    def __post_init__(self) -> None:
        if self.distance not in get_args(Distance):
            known = ", ".join(get_args(Distance))
            raise ValueError(f"distance must be one of {known}; got {self.distance!r}")
        width = len(self.target_encoder.level_indices) * self.target_encoder.dim
        if self.predictor.output_dim != width:
            raise ValueError(
                f"the predictor puts out {self.predictor.output_dim} numbers a token, the target "
                f"encoder {width}; surprise compares the two"
            )

    @torch.inference_mode()
    def surprise(self, clips: Tensor, contexts_frames: Sequence[int]) -> Tensor:
        """See `SurpriseSource.surprise`.

        Raises:
            ValueError: if a context does not end where a tubelet does.
        """
        time, height, width = clips.shape[2:]
        grid = self.context_encoder.grid_of((time, height, width))
        times = [self._shown_times(context, grid[0]) for context in contexts_frames]
        video = normalize_pixels(clips).to(self.context_encoder.patch_embed.weight.dtype)
        target = _layer_normed(self.target_encoder, self.target_encoder.levels(video))
        answers = [self._one_context(video, target, grid, shown) for shown in times]
        return torch.stack(answers).repeat_interleave(time // grid[0], dim=2)

    def _one_context(
        self, video: Tensor, target: Tensor, grid: tuple[int, int, int], shown_times: int
    ) -> Tensor:
        """Surprise at each time, in tokens: (batch, grid time)."""
        batch, places = len(video), grid[1] * grid[2]
        ids = torch.arange(grid[0] * places, device=video.device).expand(batch, -1)
        context_ids, target_ids = ids.split(
            (shown_times * places, ids.shape[1] - shown_times * places), 1
        )
        predicted = self.predictor(
            self.context_encoder.levels(video, token_ids=context_ids),
            context_ids=context_ids,
            target_ids=target_ids,
            grid=grid,
        )
        error = _distance(predicted, take_tokens(target, target_ids), self.distance)
        by_time = error.float().unflatten(1, (-1, places)).mean(2)
        return F.pad(by_time, (shown_times, 0), value=float("nan"))

    def _shown_times(self, context_frames: int, grid_time: int) -> int:
        tubelet = self.context_encoder.tubelet[0]
        if context_frames % tubelet or not 0 < context_frames < grid_time * tubelet:
            raise ValueError(
                f"a context of {context_frames} frames must be a multiple of the tubelet's "
                f"{tubelet}, and less than the window's {grid_time * tubelet}"
            )
        return context_frames // tubelet


@dataclass(frozen=True)
class PixelSurprise:
    """Distance between a frame and what the frames before it lead to expect, pixel by pixel.

    Attributes:
        extrapolates: False: a frame is expected to be as the one before (frame difference); True:
            each pixel is expected to change as it just did, 2 x[t-1] - x[t-2] (constant velocity).
    """

    extrapolates: bool = False

    @torch.inference_mode()
    def surprise(self, clips: Tensor, contexts_frames: Sequence[int]) -> Tensor:
        """See `SurpriseSource.surprise`; in parts of the range of pixels.

        Raises:
            ValueError: if there are too few frames before a predicted one.
        """
        fewest = 2 if self.extrapolates else 1
        if min(contexts_frames) < fewest:
            raise ValueError(f"contexts must be at least {fewest} frames, got {contexts_frames}")
        pixels = clips.float() / 255
        expected = (
            pixels[:, :, 1:-1] * 2 - pixels[:, :, :-2] if self.extrapolates else pixels[:, :, :-1]
        )
        error = (pixels[:, :, fewest:] - expected).abs().mean((1, 3, 4))  # (batch, time - fewest)
        answers = []
        for context in contexts_frames:
            later = error[:, context - fewest :]
            answers.append(F.pad(later, (context, 0), value=float("nan")))
        return torch.stack(answers)


def _layer_normed(encoder: VideoEncoder, latents: Tensor) -> Tensor:
    """Each level's latents without mean and scale: (batch, tokens, levels * dim)."""
    levels = latents.float().unflatten(-1, (-1, encoder.dim))
    return F.layer_norm(levels, levels.shape[-1:]).flatten(-2)


def _distance(predicted: Tensor, target: Tensor, distance: Distance) -> Tensor:
    """Distance of each token: (batch, targets)."""
    if distance == "cosine":
        return 1 - F.cosine_similarity(predicted.float(), target, dim=-1)
    if distance == "smooth_l1":
        return F.smooth_l1_loss(predicted.float(), target, reduction="none").mean(-1)
    return (predicted.float() - target).abs().mean(-1)
