"""What a checkpoint thinks comes next, beside what came: predicted and true latents of frames.

A world model imagines the actions that were done. A masked predictor sees the first half of a clip
and is asked for the rest; it was trained on masks of its own, which seldom hide all of the future.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.rollouts import imagine as imagine_windows
from jepa.models import JepaModel, LatentWorldModel

CLIPS_AT_ONCE = 8
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Imagination:
    """Predicted latents of clips, and the true ones.

    Attributes:
        frames: (clips, times, height, width, 3), uint8, one for each latent.
        latents: (clips, times, tokens, dim), of these frames as they were.
        current: (clips, tokens, dim), of the last frame that was seen, as it was seen: not of a
            pass that saw the future as well.
        predicted: (clips, horizon, tokens, dim), of the frames after it.
        num_seen: times that were seen; the last of them is that of `current`.
        grid: (height, width) of the tokens of a frame.
        distance: of latents (..., tokens, dim) to one (tokens, dim): (...).
        words: how the prediction was made, one sentence.
        step_words: what one step of it is called, and what several.
    """

    frames: np.ndarray
    latents: Tensor
    current: Tensor
    predicted: Tensor
    num_seen: int
    grid: tuple[int, int]
    distance: Distance
    words: str
    step_words: tuple[str, str]

    @property
    def horizon(self) -> int:
        """Steps that were predicted."""
        return self.predicted.shape[1]

    def ahead(self, num_steps: int) -> str:
        """Says how far ahead something is: "1 action", "3 actions"."""
        return f"{num_steps} {self.step_words[num_steps > 1]}"

    @property
    def true(self) -> Tensor:
        """(clips, horizon, tokens, dim), what came."""
        return self.latents[:, self.num_seen :]

    @property
    def true_frames(self) -> np.ndarray:
        """(clips, horizon, height, width, 3), uint8, what came."""
        return self.frames[:, self.num_seen :]

    @property
    def current_frames(self) -> np.ndarray:
        """(clips, height, width, 3), uint8, what was seen last."""
        return self.frames[:, self.num_seen - 1]


@torch.inference_mode()
def imagine(subject: Subject, clips: HeldOutClips) -> Imagination:
    """Predicts the held-out clips, each from its beginning.

    Raises:
        NotMeasured: if the checkpoint predicts nothing, or the data do not hold what it needs.
    """
    if isinstance(subject.model, LatentWorldModel):
        return _of_world_model(subject.model, clips.of_world_model())
    return _of_masked_predictor(subject.model, clips)


def _of_world_model(model: LatentWorldModel, windows: HeldOutWindows) -> Imagination:
    predicted = imagine_windows(model, windows)
    return Imagination(
        frames=windows.frames.permute(0, 2, 3, 4, 1).numpy(),
        latents=windows.latents.cpu(),
        current=windows.start_latents.cpu(),
        predicted=predicted.cpu(),
        num_seen=windows.num_past + 1,
        grid=model.latents.grid,
        distance=lambda latents, goal: _on_device(model, latents, goal),
        words="The world model starts from one frame and imagines the actions that were done; "
        "distances are its own.",
        step_words=("action", "actions"),
    )


def _on_device(model: LatentWorldModel, latents: Tensor, goal: Tensor) -> Tensor:
    device = model.action_mean.device
    with torch.inference_mode():
        return model.latents.distance(latents.to(device), goal.to(device)).cpu()


def _of_masked_predictor(model: JepaModel, clips: HeldOutClips) -> Imagination:
    encoder, time = model.encoder, clips.video.shape[2]
    length = encoder.tubelet[0]
    grid = encoder.grid_of((time, *clips.video.shape[3:]))  # pyright: ignore[reportArgumentType]
    _refuse_without_future(model, grid)
    parts = [_predicted(model, part, grid) for part in clips.video.split(CLIPS_AT_ONCE)]
    latents, current, predicted = (torch.cat(part) for part in zip(*parts, strict=True))
    return Imagination(
        frames=clips.frames[:, ::length],
        latents=latents,
        current=current,
        predicted=predicted,
        num_seen=grid[0] // 2,
        grid=grid[1:],
        distance=lambda latents, goal: (latents - goal).abs().mean((-2, -1)),
        words="The predictor sees the first half of a clip and is asked for the rest, though the "
        "masks of its training need not have hidden all of the future; distances are mean "
        "absolute differences of layer-normed tokens.",
        step_words=(f"step of {length} frames", f"steps of {length} frames"),
    )


def _refuse_without_future(model: JepaModel, grid: tuple[int, int, int]) -> None:
    if model.predictor is None:
        raise NotMeasured("this checkpoint holds an encoder only: nothing predicts")
    width = len(model.encoder.level_indices) * model.encoder.dim
    if model.predictor.output_dim != width:
        raise NotMeasured(
            f"the predictor writes {model.predictor.output_dim} numbers a token, the encoder "
            f"{width}: what is predicted cannot be compared"
        )
    if grid[0] < 2:
        raise NotMeasured("the encoder is made for clips of one token in time: there is no future")


def _predicted(
    model: JepaModel, video: Tensor, grid: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns true latents, those of the last time seen, and predicted ones, of a few clips."""
    assert model.predictor is not None
    device, places = next(model.parameters()).device, grid[1] * grid[2]
    video = video.to(device)
    ids = torch.arange(grid[0] * places, device=device).expand(len(video), -1)
    context_ids, target_ids = ids.split(
        [grid[0] // 2 * places, ids.shape[1] - grid[0] // 2 * places], 1
    )
    context = model.encoder.levels(video, token_ids=context_ids)
    predicted = model.predictor(context, context_ids=context_ids, target_ids=target_ids, grid=grid)
    dim = model.encoder.dim
    true = _normed(model.encoder.levels(video), dim).unflatten(1, (grid[0], places))
    current = _normed(context[:, -places:], dim)
    return true.cpu(), current.cpu(), predicted.float().unflatten(1, (-1, places)).cpu()


def _normed(tokens: Tensor, dim: int) -> Tensor:
    """Layer-norms each level of (..., levels * dim): what is predicted is normed likewise."""
    return F.layer_norm(tokens.float().unflatten(-1, (-1, dim)), (dim,)).flatten(-2)
