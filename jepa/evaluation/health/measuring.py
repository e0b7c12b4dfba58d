"""Measures one model on one set of batches: everything by name, nothing judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_pipelines.batch import TrajectoryBatch
from jepa.evaluation.health.attention_entropy import attention_entropies
from jepa.evaluation.health.eigenspectrum import alpha_req, eigenspectrum, lidar
from jepa.evaluation.health.model_inputs import (
    AnyModel,
    Batch,
    clips_of,
    embedded_views,
    encoded,
    frames_with_states,
    pixels_of_places,
    thumbnails,
    trajectories,
)
from jepa.evaluation.health.planning_signal import HORIZON, planning_signal
from jepa.evaluation.health.prediction import PredictionScores, feature_lag, prediction_scores
from jepa.evaluation.health.spread import alignment, uniformity, variance_shares
from jepa.evaluation.health.state_distance import state_distance
from jepa.evaluation.health.token_repetition import dead_tokens, duplicate_tokens
from jepa.masking import MultiBlock
from jepa.models import JepaModel, LatentWorldModel, take_tokens
from jepa.training.collapse import dead_dimensions, effective_rank, target_online_distance

MAX_FRAMES = 128  # whose distances are compared: 8128 pairs
LEAST_FRAMES = 8
ATTENTIVE_CLIPS = 4
TARGET_FRACTION = 0.75
CURVE_POINTS = 512


@dataclass
class Measured:
    """What was measured of one model.

    Attributes:
        values: by name; what could not be measured is left out.
        curves: more than a number, as JSON can hold it.
        num_clips: clips (of world models: frames) that were encoded.
        dim: width of a token.
    """

    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    num_clips: int = 0
    dim: int = 0

    def note(self, **values: Tensor | float) -> None:
        """Keeps values that are numbers."""
        numbers = {name: float(value) for name, value in values.items()}
        self.values |= {name: number for name, number in numbers.items() if math.isfinite(number)}


@torch.no_grad()
def measure(
    model: AnyModel,
    batches: Sequence[Batch],
    *,
    online: nn.Module | None = None,
    seed: int = 0,
) -> Measured:
    """Measures all that a model and its data allow.

    Args:
        model: in evaluation mode; the work is done where it is.
        batches: of clips or trajectories; a world model wants trajectories.
        online: the encoder that this one followed, if it is known.
        seed: of masks, views and random actions.

    Raises:
        ValueError: if there are fewer than 2 clips, or a world model gets no trajectories.
    """
    clips = clips_of(model, batches)  # (clips, 3, time, height, width)
    tokens = encoded(model.encoder, clips)
    found = Measured(num_clips=len(clips), dim=tokens.shape[-1])
    note_tokens(found, tokens, pixels_of_places(model.encoder, clips))
    found.note(input_rank=effective_rank(thumbnails(clips)))
    note_views(found, embedded_views(model.encoder, clips, seed=seed))
    _note_attention(found, model.encoder, clips)
    if online is not None:
        encoder: Any = model.encoder
        lag = feature_lag(tokens, encoded(online, clips))
        found.note(ema_distance=target_online_distance(encoder, online), ema_feature_lag=lag)
    if isinstance(model, LatentWorldModel):
        _note_world(found, model, batches, seed=seed)
    else:
        _note_masked_prediction(found, model, clips, seed=seed)
        _note_encoder_states(found, model, batches)
    return found


def note_tokens(found: Measured, tokens: Tensor, pixels: Tensor | None = None) -> None:
    """Measures tokens (clips, places, dim), and pixels (clips, places, values) of the places."""
    rows, shares = tokens.flatten(0, 1), variance_shares(tokens)
    spectrum = eigenspectrum(rows)
    found.curves["spectrum"] = spectrum[:CURVE_POINTS].tolist()
    found.note(
        effective_rank=effective_rank(rows),
        clip_rank=effective_rank(tokens.mean(1)),
        alpha_req=alpha_req(spectrum),
        relative_std=shares.relative_std,
        clip_variance=shares.clips,
        place_variance=shares.places if tokens.shape[1] > 1 else math.nan,
        dead_dimensions=dead_dimensions(rows),
        dead_tokens=dead_tokens(tokens, pixels),
        duplicate_tokens=duplicate_tokens(tokens, pixels) if tokens.shape[1] > 1 else math.nan,
    )


def note_views(found: Measured, views: Tensor) -> None:
    """Measures embeddings of views (clips, views, dim)."""
    found.note(
        lidar=lidar(views),
        alignment=alignment(views[:, 0], views[:, 1]),
        uniformity=uniformity(views[:, 0]),
    )


def note_prediction(found: Measured, scores: PredictionScores) -> None:
    """Keeps how good predictions are."""
    found.note(
        prediction_cosine=scores.cosine,
        prediction_cosine_shuffled=scores.cosine_shuffled,
        prediction_cosine_mean=scores.cosine_mean,
        prediction_gain=scores.gain_over_mean,
    )


def note_entropies(found: Measured, entropies: Sequence[Tensor]) -> None:
    """Keeps the entropies (heads,) of each layer."""
    if entropies:
        found.curves["attention_entropy"] = [layer.tolist() for layer in entropies]
        found.note(
            attention_entropy=torch.cat(list(entropies)).mean(),
            least_attention_entropy=torch.cat(list(entropies)).min(),
        )


def _note_attention(found: Measured, encoder: Any, clips: Tensor) -> None:  # noqa: ANN401
    with attention_entropies(encoder) as entropies:
        encoded(encoder, clips[:ATTENTIVE_CLIPS])
    note_entropies(found, entropies)


def _note_masked_prediction(found: Measured, model: JepaModel, clips: Tensor, *, seed: int) -> None:
    """All clips are asked for the same places, so that a place has a mean over clips."""
    predictor, encoder = model.predictor, model.encoder
    if predictor is None:
        return
    width = len(encoder.level_indices) * encoder.dim
    if (predictor.input_dim, predictor.output_dim) != (width, width):  # it predicts something else
        return
    time, height, width = clips.shape[2:]
    grid = encoder.grid_of((time, height, width))
    sampler = MultiBlock(num_blocks=8, target_fraction=TARGET_FRACTION)
    one = sampler.sample(1, grid, generator=torch.Generator().manual_seed(seed))
    predicted, targets = [], []
    device = next(encoder.parameters()).device
    for part in clips.split(8):
        video = part.to(device)
        context_ids, target_ids = (ids.expand(len(video), -1).to(device) for ids in one)
        latents = predictor(
            encoder.levels(video, token_ids=context_ids),
            context_ids=context_ids,
            target_ids=target_ids,
            grid=grid,
            modality="image" if time == 1 else "video",
        )
        target = take_tokens(encoder.levels(video), target_ids)
        predicted.append(latents.cpu())
        targets.append(_normed_by_level(target, encoder.dim).cpu())
    note_prediction(found, prediction_scores(torch.cat(predicted), torch.cat(targets)))


def _normed_by_level(tokens: Tensor, dim: int) -> Tensor:
    """Layer-norms each level of (clips, places, levels * dim), as what is predicted is normed."""
    return F.layer_norm(tokens.unflatten(-1, (-1, dim)).float(), (dim,)).flatten(-2)


def _note_encoder_states(found: Measured, model: JepaModel, batches: Sequence[Batch]) -> None:
    """Distance of all tokens of a frame, layer-normed, beside that of states."""
    if not all(isinstance(batch, TrajectoryBatch) and batch.states.shape[-1] for batch in batches):
        return
    frames = frames_with_states(batches, at_most_frames=MAX_FRAMES)
    repeats = model.encoder.tubelet[0]
    tokens = encoded(model.encoder, frames.pixels.expand(-1, -1, repeats, -1, -1))
    flat = F.layer_norm(tokens, tokens.shape[-1:]).flatten(1)
    note_states(found, torch.cdist(flat, flat), frames.states, frames.trajectories)


def note_states(found: Measured, latent: Tensor, states: Tensor, trajectory: Tensor) -> None:
    """Compares latent distances (frames, frames) with those of states (frames, state_dim).

    Nothing is noted of fewer than 8 frames, or of states or latents that are all alike.
    """
    if len(states) < LEAST_FRAMES:
        return
    arrays = (latent.cpu().double().numpy(), states.cpu().double().numpy(), trajectory.numpy())
    result = state_distance(*arrays)
    overall = result.correlation[-1]
    if not math.isfinite(overall.value):
        return
    found.note(
        state_correlation=overall.value,
        state_correlation_low=overall.low,
        state_correlation_high=overall.high,
        state_monotonic_share=result.monotonic_share,
    )
    columns = {"radius": result.radius, "latent": result.latent}
    columns |= {"correlation": [interval.value for interval in result.correlation]}
    columns |= {end: [getattr(i, end) for i in result.correlation] for end in ("low", "high")}
    found.curves["state_distance"] = {
        "monotonic_radius": result.monotonic_radius,
        **{name: [_number(value) for value in values] for name, values in columns.items()},
    }


def _number(value: float) -> float | None:
    """None for what JSON has no word for."""
    return value if math.isfinite(value) else None


def _note_world(
    found: Measured, model: LatentWorldModel, batches: Sequence[Batch], *, seed: int
) -> None:
    """Measures latent space, prediction and planning cost on windows of trajectories."""
    known = trajectories(batches)
    device = model.action_mean.device
    windows = [part for batch in known for part in batch.frames.split(4)]
    latents = torch.cat([model.encode(part.to(device)) for part in windows])
    states, actions = (
        torch.cat([getattr(batch, name) for batch in known]).to(device)
        for name in ("states", "actions")
    )
    flat = latents.flatten(0, 1)  # (frames, tokens, dim)
    shares = variance_shares(flat)
    found.note(
        latent_rank=effective_rank(flat.flatten(1)), latent_relative_std=shares.relative_std,
        latent_clip_variance=shares.clips,
    )  # fmt: skip
    predicted = model(latents[:, :-1], states[:, :-1], actions).tokens
    target = latents[:, 1:]
    scores = prediction_scores(predicted.flatten(1, 2), target.flatten(1, 2))
    note_prediction(found, scores)
    error, copied = ((guess - target).square().mean() for guess in (predicted, latents[:, :-1]))
    found.note(prediction_gain_over_copy=1 - error / copied.clamp_min(1e-12))
    if latents.shape[1] >= model.context_frames + HORIZON and len(latents) > 2:
        _note_planning(found, planning_signal(model, latents, states, actions, seed=seed))
    frames = frames_with_states(batches, at_most_frames=MAX_FRAMES)
    rows = torch.cat([model.encode(part.to(device)) for part in frames.pixels.split(8)])[:, 0]
    distances = torch.stack([model.latents.distance(rows, goal) for goal in rows])
    note_states(found, distances, frames.states, frames.trajectories)


def _note_planning(found: Measured, signal: Any) -> None:  # noqa: ANN401
    interval = signal.signal_to_noise
    found.note(
        planning_signal=interval.value,
        planning_signal_low=interval.low,
        planning_signal_high=interval.high,
        planning_share_beaten=signal.share_beaten,
    )
    found.curves["planning_costs"] = {
        "true": signal.true_costs,
        "random_mean": signal.random_means,
        "random_std": signal.random_stds,
    }
