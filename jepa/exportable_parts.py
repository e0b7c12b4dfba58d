"""Models as other programs see them: tensors in, tensors out, by name, shape and meaning.

Each part is a module whose `forward` takes and returns tensors only, and an `Example` that says
what they are. Lengths that a caller may choose are axes with a name; all others are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from jepa.models.dynamics import Dynamics
from jepa.models.encoder import VideoEncoder
from jepa.models.predictor import MaskedLatentPredictor

Size = tuple[int, int, int]  # frames, height and width of a video


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that goes into a part or comes out of it.

    Attributes:
        name: as the exported file calls it.
        shape: a number is a fixed length, a name an axis of any length.
        meaning: units and range, for export.json.
        dtype: of its numbers.
        below: integers are in [0, below).
    """

    name: str
    shape: tuple[int | str, ...]
    meaning: str
    dtype: torch.dtype = torch.float32
    below: int = 0

    def sized(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the shape with lengths in the place of names."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.shape)

    def draw(self, sizes: Mapping[str, int], generator: torch.Generator | None = None) -> Tensor:
        """Returns a random tensor: normal, or uniform if integers."""
        if self.dtype.is_floating_point:
            return torch.randn(self.sized(sizes), dtype=self.dtype, generator=generator)
        return torch.randint(self.below, self.sized(sizes), dtype=self.dtype, generator=generator)


@dataclass(frozen=True)
class Example:
    """What goes into a part and what comes out, in the order of its `forward`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def draw(
        self, sizes: Mapping[str, int], generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """Returns random inputs; `sizes` are the lengths of the axes that have names."""
        return tuple(spec.draw(sizes, generator) for spec in self.inputs)


class EncoderPart(nn.Module):
    """Video to tokens."""

    def __init__(self, encoder: VideoEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, video: Tensor) -> Tensor:
        """Maps (batch, 3, time, height, width) to (batch, tokens, dim)."""
        return self.encoder(video)


class PredictorPart(nn.Module):
    """Context tokens to the latents at the places asked for, on a fixed grid."""

    def __init__(self, predictor: MaskedLatentPredictor, *, grid: Size, is_image: bool) -> None:
        super().__init__()
        self.predictor, self.grid = predictor, grid
        self.modality: Literal["video", "image"] = "image" if is_image else "video"

    def forward(self, context: Tensor, context_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Maps (batch, context, dim), and ids of it and of targets, to (batch, targets, dim)."""
        return self.predictor(
            context,
            context_ids=context_ids,
            target_ids=target_ids,
            grid=self.grid,
            modality=self.modality,
        )


class StepPart(nn.Module):
    """One frame and one action to the next frame."""

    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, tokens: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Maps tokens, state and action, each (batch, ...), to the next tokens and state."""
        prediction, _ = self.dynamics.step(tokens, state, action)
        return prediction.tokens, prediction.state


class RolloutPart(nn.Module):
    """One frame and several actions to the frames after each of them."""

    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, tokens: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Maps tokens, state and actions (batch, horizon, action_dim) to tokens and states."""
        prediction = self.dynamics.rollout(tokens, state, actions)
        return prediction.tokens, prediction.state


class StatelessPart(nn.Module):
    """The dynamics of a world without proprioception: no file should have tensors without numbers.

    Args:
        part: a `StepPart` or `RolloutPart` whose state has no columns.
    """

    def __init__(self, part: StepPart | RolloutPart) -> None:
        super().__init__()
        self.part = part

    def forward(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Maps tokens and action or actions to tokens, without states on either side."""
        return self.part(tokens, tokens.new_zeros(tokens.shape[0], 0), actions)[0]


def encoder_part(
    encoder: VideoEncoder, *, size: Size | None = None, takes_pixels: bool = False
) -> tuple[EncoderPart, Example]:
    """Returns the encoder for videos of one size, and what goes in and out.

    Args:
        encoder: the model.
        size: frames, height and width; None: what the encoder was made for.
        takes_pixels: take uint8 in [0, 255] and normalise inside; else normalised floats.

    Raises:
        ValueError: if a tubelet does not divide the size.
    """
    size = made_for(encoder) if size is None else size
    time, height, width = encoder.grid_of(size)
    shape = ("batch", 3, *size)
    if takes_pixels:
        video = TensorSpec("video", shape, "pixels in [0, 255], RGB", torch.uint8, below=256)
    else:
        meaning = "pixels / 255 with ImageNet's mean and deviation removed, RGB"
        video = TensorSpec("video", shape, meaning)
    tokens = TensorSpec(
        "tokens",
        ("batch", time * height * width, encoder.dim),
        f"flat over (time, height, width) = ({time}, {height}, {width}), width fastest",
    )
    return EncoderPart(encoder), Example((video,), (tokens,))


def predictor_part(
    predictor: MaskedLatentPredictor, encoder: VideoEncoder, *, size: Size | None = None
) -> tuple[PredictorPart, Example]:
    """Returns the predictor for videos of one size, and what goes in and out.

    Any number of context and of target tokens goes in. It asks with the mask token of its settings.

    Args:
        predictor: the model.
        encoder: whose tokens it takes; tells the grid of a size.
        size: frames, height and width of the video; None: what the encoder was made for.

    Raises:
        ValueError: if a tubelet does not divide the size.
    """
    size = made_for(encoder) if size is None else size
    grid = encoder.grid_of(size)
    num_places = grid[0] * grid[1] * grid[2]

    def ids(name: str, axis: str) -> TensorSpec:
        meaning = f"places in [0, {num_places}), flat over (time, height, width) = {grid}"
        return TensorSpec(name, ("batch", axis), meaning, torch.int64, below=num_places)

    context = TensorSpec(
        "context", ("batch", "context", predictor.input_dim), "encoded visible tokens"
    )
    inputs = (context, ids("context_ids", "context"), ids("target_ids", "targets"))
    targets = TensorSpec(
        "targets", ("batch", "targets", predictor.output_dim), "latents at target_ids"
    )
    part = PredictorPart(predictor, grid=grid, is_image=size[0] == 1)
    return part, Example(inputs, (targets,))


def dynamics_part(dynamics: Dynamics, *, horizon: int = 1) -> tuple[nn.Module, Example]:
    """Returns the dynamics from one frame on, and what goes in and out.

    Where the model takes extrinsics, they are left out.

    Args:
        dynamics: the model.
        horizon: 1 is one step, (batch, action_dim) actions; more is a rollout that feeds
            predictions back in, (batch, horizon, action_dim) actions.

    Raises:
        ValueError: if the horizon is less than 1, or the dynamics are an ensemble.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    if dynamics.num_members > 1:
        raise ValueError(
            f"an ensemble of {dynamics.num_members} members is not exported, as the file would not "
            "tell their disagreement; train the trunk alone, and export that"
        )
    is_step = horizon == 1
    time, plural = ((), "") if is_step else ((horizon,), "s")
    num_tokens = dynamics.grid[0] * dynamics.grid[1]
    latent = (num_tokens, dynamics.latent_dim)
    unit = "in the units of the dynamics: see world_model.scaling in the model's config.json"
    tokens = TensorSpec("tokens", ("batch", *latent), "latents of the latest frame")
    state = TensorSpec("state", ("batch", dynamics.state_dim), f"of that frame, {unit}")
    actions = TensorSpec(f"action{plural}", ("batch", *time, dynamics.action_dim), unit)
    next_tokens = TensorSpec("next_tokens", ("batch", *time, *latent), "after each action")
    next_states = TensorSpec(
        f"next_state{plural}", ("batch", *time, dynamics.state_dim), f"after each action, {unit}"
    )
    part = StepPart(dynamics) if is_step else RolloutPart(dynamics)
    if dynamics.state_dim == 0:
        return StatelessPart(part), Example((tokens, actions), (next_tokens,))
    return part, Example((tokens, state, actions), (next_tokens, next_states))


def made_for(encoder: VideoEncoder) -> Size:
    """Returns frames, height and width of the videos that an encoder was made for."""
    config = cast(dict[str, Any], encoder.config)
    return config["clip_length_frames"], config["image_size"], config["image_size"]
