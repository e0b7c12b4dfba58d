"""Floating-point operations of a pretraining step, counted from shapes.

A multiplication and an addition are two operations. Counted are matrix products, attention's too,
as in the figures that papers call model FLOPs; norms, activations and rotations are left out, and
so is what activation checkpointing computes twice. A backward pass costs twice its forward pass,
less what no gradient is wanted for: the pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import nn

from jepa.masking import Mask
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.encoder import Grid
from jepa.models.transformer import Transformer


class Recipe(Protocol):
    """What `jepa.training.pretraining.Pretraining` and its kin tell of their step."""

    encoder: VideoEncoder
    predictor: MaskedLatentPredictor

    def target_network(self) -> tuple[VideoEncoder, bool]:
        """The encoder that makes the targets, and whether gradient flows into it."""
        ...

    def trained_modules(self) -> list[nn.Module]:
        """What the optimizer changes."""
        ...

    def frozen_modules(self) -> list[nn.Module]:
        """What it does not, and a sharding strategy cuts too."""
        ...

    def draw_masks(
        self, batch: int, grid: Grid, *, is_image: bool, generator: torch.Generator
    ) -> list[Mask]:
        """Masks as a training step draws them."""
        ...


class StepFlops(NamedTuple):
    """Operations of one step on one device.

    Attributes:
        target: forward pass of the target encoder over all tokens.
        context: forward passes of the encoder over what each mask shows.
        predictor: forward passes of the predictor, for each mask.
        backward: through all that is trained.
    """

    target: int
    context: int
    predictor: int
    backward: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    def times(self, factor: int) -> StepFlops:
        """The operations of so many clips or steps."""
        return StepFlops(*(factor * part for part in self))


def transformer_flops(transformer: Transformer, num_tokens: int) -> int:
    """Returns the operations of one sequence's forward pass through all blocks."""
    dim, depth = transformer.norm.normalized_shape[0], len(transformer.blocks)
    linear = 2 * num_tokens * linear_weights(transformer.blocks)
    return linear + depth * 4 * num_tokens**2 * int(dim)


def embedding_flops(encoder: VideoEncoder, num_tokens: int, *, is_image: bool = False) -> int:
    """Returns the operations of embedding so many patches of pixels."""
    frames, patch, _ = encoder.tubelet
    if is_image and encoder.image_embed is not None:
        frames = 1
    return 2 * num_tokens * 3 * frames * patch**2 * encoder.dim


def encoder_flops(encoder: VideoEncoder, num_tokens: int, *, is_image: bool = False) -> int:
    """Returns the operations of encoding so many tokens of one clip."""
    embedding = embedding_flops(encoder, num_tokens, is_image=is_image)
    return embedding + transformer_flops(encoder.transformer, num_tokens)


def predictor_flops(predictor: MaskedLatentPredictor, *, context: int, targets: int) -> int:
    """Returns the operations of predicting targets from context tokens of one clip."""
    total = 2 * context * linear_weights(predictor.embed)
    total += transformer_flops(predictor.transformer, context + targets)
    total += 2 * targets * linear_weights(predictor.proj)
    if predictor.context_proj is not None:
        total += 2 * context * linear_weights(predictor.context_proj)
    return total


def step_flops(recipe: Recipe, size: tuple[int, int, int], *, batch_size: int) -> StepFlops:
    """Returns the operations of one step: target, contexts, predictions, and backward.

    Args:
        recipe: its masks are drawn once; how many tokens they hide does not vary with our samplers,
            and a little from batch to batch with `ReferenceMultiBlock`.
        size: (frames, height, width) of a clip in frames and pixels; one frame is an image.
        batch_size: clips on one device.
    """
    is_image = size[0] == 1
    grid = recipe.encoder.grid_of(size)
    masks = recipe.draw_masks(
        batch_size, grid, is_image=is_image, generator=torch.Generator().manual_seed(0)
    )
    target_encoder, is_trained = recipe.target_network()
    num_tokens = math.prod(grid)
    target = encoder_flops(target_encoder, num_tokens, is_image=is_image)
    shown = [mask.context_ids.shape[1] for mask in masks]
    hidden = [mask.target_ids.shape[1] for mask in masks]
    context = sum(encoder_flops(recipe.encoder, count, is_image=is_image) for count in shown)
    predictor = sum(
        predictor_flops(recipe.predictor, context=visible, targets=asked)
        for visible, asked in zip(shown, hidden, strict=True)
    )
    without_gradient = embedding_flops(recipe.encoder, sum(shown), is_image=is_image)
    if is_trained:
        without_gradient += embedding_flops(target_encoder, num_tokens, is_image=is_image)
    backward = 2 * (context + predictor + is_trained * target) - without_gradient
    return StepFlops(target, context, predictor, backward).times(batch_size)


def linear_weights(module: nn.Module) -> int:
    """Returns how many weights the linear layers of a module have: each is used once a token."""
    return sum(
        layer.in_features * layer.out_features
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    )
