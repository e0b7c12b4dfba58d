"""What a model is shown when it is measured: clips or frames, views of them; and its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipelines.batch import ClipBatch, TrajectoryBatch
from jepa.models import JepaModel, LatentWorldModel, VideoEncoder
from jepa.training.collapse import at_most

Batch = ClipBatch | TrajectoryBatch
AnyModel = JepaModel | LatentWorldModel

MAX_CLIPS = 128
MAX_PLACES = 256  # of a clip, whose tokens are kept
MAX_VALUES = 96  # of a place's pixels that are kept
FRAMES_PER_WINDOW = 5
CLIPS_AT_ONCE = 8
NUM_VIEWS = 8
VISIBLE_SHARE = 0.5  # of a clip's tokens in a view
MAX_SHIFT = 1 / 8  # of height and width, where a view cannot hide tokens
THUMBNAIL = (4, 8, 8)  # frames, height and width that stand for a clip's pixels


class Frames(NamedTuple):
    """Single frames of trajectories and where they were taken.

    Attributes:
        pixels: (frames, 3, 1, height, width), uint8.
        states: (frames, state_dim), raw units.
        trajectories: (frames,), the number of the trajectory.
    """

    pixels: Tensor
    states: Tensor
    trajectories: Tensor


def clips_of(model: AnyModel, batches: Sequence[Batch]) -> Tensor:
    """Returns at most 128 clips that the encoder takes: (clips, 3, time, height, width), uint8.

    A world model sees single frames, some of each window.

    Raises:
        ValueError: if there are fewer than 2.
    """
    if isinstance(model, LatentWorldModel):
        frames = torch.cat([some_frames(batch.frames) for batch in trajectories(batches)])
        repeats = model.encoder.tubelet[0] if isinstance(model.encoder, VideoEncoder) else 1
        clips = at_most(MAX_CLIPS, frames.flatten(0, 1)).expand(-1, -1, repeats, -1, -1)
    else:
        valid = [batch.only_valid() for batch in batches]
        videos = [b.frames if isinstance(b, TrajectoryBatch) else b.video for b in valid]
        clips = at_most(MAX_CLIPS, torch.cat(videos))
    if len(clips) < 2:
        raise ValueError(f"health is measured over clips, and needs at least 2, got {len(clips)}")
    return clips


def trajectories(batches: Sequence[Batch]) -> list[TrajectoryBatch]:
    """Returns the batches of trajectories, without padding.

    Raises:
        ValueError: if there are none.
    """
    found = [batch.only_valid() for batch in batches if isinstance(batch, TrajectoryBatch)]
    if not any(len(batch.frames) for batch in found):
        raise ValueError(
            "a world model is measured on trajectories, with actions and states, and these data "
            "are clips: give shards of trajectories"
        )
    return found


def frames_with_states(batches: Sequence[Batch], *, at_most_frames: int) -> Frames:
    """Returns some frames of each window, with their states.

    Raises:
        ValueError: if there are no trajectories.
    """
    known = trajectories(batches)
    pixels = torch.cat([some_frames(batch.frames) for batch in known])  # (windows, frames, ...)
    states = torch.cat([_some_times(batch.states) for batch in known])
    keys = [key for batch in known for key in batch.keys]
    numbers = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    groups = torch.tensor([numbers[key] for key in keys])[:, None].expand(states.shape[:2])
    parts = (pixels.flatten(0, 1), states.flatten(0, 1), groups.flatten())
    return Frames(*(at_most(at_most_frames, part) for part in parts))


def some_frames(frames: Tensor) -> Tensor:
    """Cuts some frames out of (windows, 3, time, ...): (windows, frames, 3, 1, height, width)."""
    return _some_times(frames.transpose(1, 2)).unsqueeze(3)


@torch.no_grad()
def encoded(encoder: Any, clips: Tensor, *, token_ids: Tensor | None = None) -> Tensor:  # noqa: ANN401
    """Encodes clips, a few at a time: (clips, places, dim) in float32, of at most 256 places."""
    device = next(encoder.parameters()).device
    parts = []
    for first in range(0, len(clips), CLIPS_AT_ONCE):
        rows = slice(first, first + CLIPS_AT_ONCE)
        video = clips[rows].to(device)
        if not isinstance(encoder, VideoEncoder):
            tokens = encoder.encode_frames(video)[:, 0]
        elif token_ids is None:
            tokens = encoder(video)
        else:
            tokens = encoder(video, token_ids=token_ids[rows].to(device))
        parts.append(_some_places(tokens).float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def pixels_of_places(encoder: Any, clips: Tensor) -> Tensor | None:  # noqa: ANN401
    """Returns some pixels of each place that `encoded` keeps, None if places are no tubelets.

    Returns:
        (clips, places, values), uint8, values at most 96.
    """
    if not isinstance(encoder, VideoEncoder):
        return None
    parts = []
    for first in range(0, len(clips), CLIPS_AT_ONCE):
        patches = _some_places(encoder.patchify(clips[first : first + CLIPS_AT_ONCE]))
        parts.append(patches[..., :: -(-patches.shape[-1] // MAX_VALUES)])
    return torch.cat(parts)


@torch.no_grad()
def embedded_views(encoder: Any, clips: Tensor, *, seed: int) -> Tensor:  # noqa: ANN401
    """Returns embeddings of several views of every clip: (clips, views, dim).

    A view of a video encoder shows half of the tokens, drawn anew; of another encoder, the frame
    moved by at most an eighth of its width. An embedding is the mean of the view's tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    views = []
    for _ in range(NUM_VIEWS):
        if isinstance(encoder, VideoEncoder):
            ids = _visible_ids(encoder, clips, generator=generator)
            tokens = encoded(encoder, clips, token_ids=ids)
        else:
            tokens = encoded(encoder, _shifted(clips, generator=generator))
        views.append(tokens.mean(1))
    return torch.stack(views, dim=1)


def thumbnails(clips: Tensor) -> Tensor:
    """Averages clips (clips, 3, time, height, width) to few pixels in [0, 1]: (clips, values)."""
    time, height, width = map(min, clips.shape[2:], THUMBNAIL)
    size = (time, height, width)
    pooled = [F.adaptive_avg_pool3d(clip.float() / 255, size).flatten() for clip in clips]
    return torch.stack(pooled)


def _visible_ids(encoder: VideoEncoder, clips: Tensor, *, generator: torch.Generator) -> Tensor:
    time, height, width = clips.shape[2:]
    places = encoder.grid_of((time, height, width))
    num_tokens = places[0] * places[1] * places[2]
    kept = max(1, round(VISIBLE_SHARE * num_tokens))
    order = torch.rand(len(clips), num_tokens, generator=generator).argsort(1)
    return order[:, :kept].sort(1).values


def _shifted(clips: Tensor, *, generator: torch.Generator) -> Tensor:
    """Moves every clip by its own number of pixels; its edge fills the gap."""
    height, width = clips.shape[-2:]
    most = [int(size * MAX_SHIFT) for size in (height, width)]
    moved = []
    for clip in clips:
        down, right = (
            int(torch.randint(-pixels, pixels + 1, (), generator=generator)) for pixels in most
        )
        rows = (torch.arange(height) - down).clamp(0, height - 1)
        columns = (torch.arange(width) - right).clamp(0, width - 1)
        moved.append(clip[..., rows, :][..., columns])
    return torch.stack(moved)


def _some_times(values: Tensor) -> Tensor:
    """Takes at most 5 evenly spread times of (windows, time, ...)."""
    return at_most(FRAMES_PER_WINDOW, values.transpose(0, 1)).transpose(0, 1)


def _some_places(tokens: Tensor) -> Tensor:
    return at_most(MAX_PLACES, tokens.transpose(0, 1)).transpose(0, 1)
