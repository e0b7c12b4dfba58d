"""What an encoder sees of a clip, and what its masked-latent predictor expects after it.

As in V-JEPA 2 (arXiv:2506.09985, Sec. 6): the predictor is asked for the tubelet that begins
`anticipation_seconds` after the clip, and its tokens stand beside those of the encoder.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa.models.encoder import Grid, VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.predictor import MaskedLatentPredictor

_ROUNDING = 1e-6  # 0.3 s at 10 frames a second is 2.9999999999999996 frames


class FutureTokens(NamedTuple):
    """Tokens of what was seen, and of what is expected.

    Attributes:
        observed: (batch, tokens, dim), of the encoder.
        predicted: (batch, places of one tubelet, predicted dim), of the predictor; None without.
    """

    observed: Tensor
    predicted: Tensor | None


class Anticipator(nn.Module):
    """A frozen encoder, and the predictor that was trained with it.

    Args:
        model: with an encoder of videos. Without a predictor nothing is predicted.
        frames_per_second: of the clips.
        step_tubelets: None: the future is asked for at once, whatever lies between, as in the
            paper. A number: so many tubelets are predicted at a time, up to the one that is asked
            for, each from the clip and all predictions before it.

    Raises:
        ValueError: if the model or a number does not fit.
    """

    def __init__(
        self, model: JepaModel, *, frames_per_second: float, step_tubelets: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(model.encoder, VideoEncoder):
            raise ValueError(
                f"anticipation needs an encoder of videos, got a {type(model.encoder).__name__}"
            )
        if not frames_per_second > 0:
            raise ValueError(f"frames_per_second must be above 0, got {frames_per_second}")
        self.encoder, self.predictor = model.encoder, model.predictor
        self.frames_per_second, self.step_tubelets = frames_per_second, step_tubelets
        if step_tubelets is not None:
            self._refuse_impossible_steps(step_tubelets)

    @property
    def predicted_dim(self) -> int | None:
        """Width of a predicted token; None without a predictor.

        Of a predictor of several levels, side by side, the last level is taken; of one that was
        distilled from a wider teacher (V-JEPA 2.1 B and L) all channels, which are the teacher's.
        """
        if self.predictor is None:
            return None
        has_levels = self.predictor.output_dim == self.predictor.input_dim
        return self.encoder.dim if has_levels else self.predictor.output_dim

    def forward(self, video: Tensor, anticipation_seconds: Tensor) -> FutureTokens:
        """Encodes clips and predicts what begins so many seconds after each.

        Args:
            video: (batch, 3, time, height, width), pixels as for the encoder.
            anticipation_seconds: (batch,), each its own; at least 0.

        Raises:
            ValueError: if a time is negative, or beyond what the predictor has positions for.
        """
        levels = self.encoder.levels(video)  # (batch, tokens, levels * dim)
        observed = levels[..., -self.encoder.dim :]
        if self.predictor is None:
            return FutureTokens(observed, None)
        time, height, width = self.encoder.grid_of(_size(video))
        steps = self.steps_ahead(anticipation_seconds)  # (batch,)
        self.refuse_too_far(float(anticipation_seconds.max()), (time, height, width))
        if self.step_tubelets is None:
            predicted = self._jump(levels, steps, (time, height, width))
        else:
            predicted = self._walk(levels, steps, (time, height, width))
        return FutureTokens(observed, predicted[..., -(self.predicted_dim or 0) :])

    def steps_ahead(self, anticipation_seconds: Tensor) -> Tensor:
        """Returns how many whole tubelets lie between the clip and the one asked for: (batch,).

        Raises:
            ValueError: if a time is negative.
        """
        seconds = anticipation_seconds.double()
        if bool((seconds < 0).any()):
            raise ValueError(f"anticipation_seconds must be at least 0, got {float(seconds.min())}")
        tubelets = seconds * self.frames_per_second / self.encoder.tubelet[0]
        return (tubelets + _ROUNDING).floor().long()

    def largest_anticipation_seconds(self, clip_grid: Grid) -> float:
        """Returns below which time the predictor has positions, of a clip of this grid in tokens.

        Rotary positions have no end (inf), though none beyond `trained_seconds` were trained.
        """
        if self.predictor is None or self.predictor.positions.made_for is None:
            return math.inf
        if self.predictor.positions.is_rotary:
            return math.inf
        return self._seconds_until(self.predictor.positions.made_for[0], clip_grid)

    def trained_seconds(self, clip_grid: Grid) -> float:
        """Returns below which time the tubelet asked for lies in a clip as long as the encoder's.

        Such clips are what the predictor was trained on, as far as the model says.
        """
        return self._seconds_until(self.encoder.grid[0], clip_grid)

    def refuse_too_far(self, anticipation_seconds: float, clip_grid: Grid) -> None:
        """Raises ValueError if the predictor has no position for this time after such a clip."""
        largest = self.largest_anticipation_seconds(clip_grid)
        if anticipation_seconds < largest:
            return
        assert self.predictor is not None and self.predictor.positions.made_for is not None
        places, tubelet = self.predictor.positions.made_for[0], self.encoder.tubelet[0]
        room = f"less than {largest:g} s can be anticipated" if largest > 0 else "none is left"
        raise ValueError(
            f"the predictor has positions for {places * tubelet} frames, and the clip takes "
            f"{clip_grid[0] * tubelet} of them: {room}, {anticipation_seconds:g} s was asked; "
            "observe fewer frames, or frames further apart"
        )

    def _seconds_until(self, num_times: int, clip_grid: Grid) -> float:
        """Returns how long after a clip the last of so many tubelets ends."""
        return (num_times - clip_grid[0]) * self.encoder.tubelet[0] / self.frames_per_second

    def _jump(self, context: Tensor, steps: Tensor, grid: Grid) -> Tensor:
        """Predicts one tubelet of each clip: (batch, places, output dim)."""
        places, first = grid[1] * grid[2], grid[0] * grid[1] * grid[2]
        target_ids = future_ids(steps, grid)
        return self._predict(
            context,
            torch.arange(first, device=context.device).expand(len(context), -1),
            target_ids,
            (int(target_ids.max()) // places + 1, *grid[1:]),
        )

    def _walk(self, context: Tensor, steps: Tensor, grid: Grid) -> Tensor:
        """Predicts every tubelet up to the farthest, and takes that of each clip."""
        assert self.step_tubelets is not None
        places, num_steps = grid[1] * grid[2], int(steps.max()) + 1
        for done in range(0, num_steps, self.step_tubelets):
            ahead = min(self.step_tubelets, num_steps - done)
            shown = context.shape[1]
            ids = torch.arange(shown + ahead * places, device=context.device)
            ids = ids.expand(len(context), -1)
            whole = (grid[0] + done + ahead, *grid[1:])
            more = self._predict(context, ids[:, :shown], ids[:, shown:], whole)
            context = torch.cat((context, more), dim=1)
        ids = future_ids(steps, grid)  # the prediction of place i stands at i, after the context
        return context[torch.arange(len(context), device=context.device)[:, None], ids]

    def _predict(self, context: Tensor, ids: Tensor, target_ids: Tensor, grid: Grid) -> Tensor:
        assert self.predictor is not None
        return self.predictor(context, context_ids=ids, target_ids=target_ids, grid=grid)

    def _refuse_impossible_steps(self, step_tubelets: int) -> None:
        if step_tubelets < 1:
            raise ValueError(f"step_tubelets must be at least 1, got {step_tubelets}")
        predictor = self.predictor
        if predictor is not None and predictor.output_dim != predictor.input_dim:
            raise ValueError(
                f"the predictor takes tokens of {predictor.input_dim} channels and predicts "
                f"{predictor.output_dim}: it cannot go on from its own predictions; leave out "
                "step_tubelets"
            )


def future_ids(steps: Tensor, grid: Grid) -> Tensor:
    """Returns the places of one tubelet after a clip: (batch, height * width).

    Args:
        steps: (batch,), tubelets between the clip's end and the one asked for.
        grid: (time, height, width) of the clip in tokens; ids count on from its last.
    """
    places = grid[1] * grid[2]
    first = (grid[0] + steps) * places  # (batch,)
    return first[:, None] + torch.arange(places, device=steps.device)


def untrained_twin(model: JepaModel, *, seed: int = 0) -> JepaModel:
    """Returns the same encoder and predictor with fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = VideoEncoder(**model.encoder.config)
        predictor = None
        if model.predictor is not None:
            predictor = MaskedLatentPredictor(**model.predictor.config)
    return JepaModel(encoder, predictor=predictor).eval()


def _size(video: Tensor) -> tuple[int, int, int]:
    time, height, width = video.shape[2:]
    return time, height, width
