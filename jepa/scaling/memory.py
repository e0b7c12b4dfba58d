"""Memory of a pretraining step, before it is needed: counted from shapes.

Weights, gradients, optimizer, targets, and what a backward pass keeps of the forward pass. Work
space of kernels and the allocator's fragments come on top: 10 to 20 % on a GPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.transformer import Transformer
from jepa.scaling.flops import Recipe

MASTER_BYTES = 4  # weights, gradients and averages are float32, whatever the autocast says


class StepMemory(NamedTuple):
    """Bytes on one device.

    Attributes:
        weights: of what is trained.
        gradients: of what is trained.
        optimizer: the two moments of AdamW.
        target: weights of the target encoder, where it is another one.
        activations: what the backward pass keeps of the forward pass.
    """

    weights: int
    gradients: int
    optimizer: int
    target: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def step_memory(
    recipe: Recipe,
    size: tuple[int, int, int],
    *,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    checkpoints_activations: bool = False,
    num_shards: int = 1,
) -> StepMemory:
    """Returns the bytes of one step on one device.

    Args:
        recipe: see `jepa.scaling.flops.Recipe`.
        size: (frames, height, width) of a clip in frames and pixels; one frame is an image.
        batch_size: clips on one device.
        dtype: of the matrix products: bfloat16 under bf16-mixed.
        checkpoints_activations: blocks keep their inputs only and are computed twice.
        num_shards: devices that share weights, gradients, moments and targets (FSDP); 1 for DDP.
    """
    target_encoder, is_trained = recipe.target_network()
    trained = count_parameters(recipe.encoder) + count_parameters(recipe.predictor)
    shared = math.ceil(trained * MASTER_BYTES / num_shards)
    other = 0 if is_trained else count_parameters(target_encoder) * MASTER_BYTES
    kept = kept_values_of_a_clip(recipe, size, checkpoints_activations=checkpoints_activations)
    return StepMemory(
        weights=shared,
        gradients=shared,
        optimizer=2 * shared,
        target=math.ceil(other / num_shards),
        activations=batch_size * kept * dtype.itemsize,
    )


def kept_values_of_a_clip(
    recipe: Recipe, size: tuple[int, int, int], *, checkpoints_activations: bool = False
) -> int:
    """Returns how many numbers the backward pass needs of one clip's forward pass."""
    is_image = size[0] == 1
    grid = recipe.encoder.grid_of(size)
    generator = torch.Generator().manual_seed(0)
    masks = recipe.draw_masks(1, grid, is_image=is_image, generator=generator)
    encoder, predictor, again = recipe.encoder, recipe.predictor, checkpoints_activations
    total = 0
    for mask in masks:
        context, targets = mask.context_ids.shape[1], mask.target_ids.shape[1]
        total += _kept_by_encoder(encoder, context, again=again)
        total += _kept_by_predictor(predictor, context, targets, again=again)
    if recipe.target_network()[1]:
        total += _kept_by_encoder(encoder, math.prod(grid), again=again)
    return total


def kept_values_of_a_block(transformer: Transformer, num_tokens: int) -> int:
    """Returns how many numbers one block keeps of a sequence, with a fused attention.

    The inputs and outputs of two norms, queries, keys, values, what attention puts out, and the
    hidden values of the MLP before and after its activation.
    """
    block = transformer.blocks[0]
    mlp = [layer for layer in block.modules() if isinstance(layer, nn.Linear)][-1]
    dim, hidden = mlp.out_features, mlp.in_features
    return num_tokens * (8 * dim + 2 * hidden)


def count_parameters(module: nn.Module) -> int:
    """Returns the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _kept_by_transformer(transformer: Transformer, num_tokens: int, *, again: bool) -> int:
    depth = len(transformer.blocks)
    if not depth:
        return 0
    of_a_block = kept_values_of_a_block(transformer, num_tokens)
    if not again:
        return depth * of_a_block
    width = transformer.norm.normalized_shape[0]
    return depth * num_tokens * int(width) + of_a_block


def _kept_by_encoder(encoder: VideoEncoder, num_tokens: int, *, again: bool) -> int:
    pixels = 3 * math.prod(encoder.tubelet)
    levels = len(encoder.level_indices)
    ends = num_tokens * (pixels + levels * encoder.dim)
    return ends + _kept_by_transformer(encoder.transformer, num_tokens, again=again)


def _kept_by_predictor(
    predictor: MaskedLatentPredictor, context: int, targets: int, *, again: bool
) -> int:
    width = int(predictor.transformer.norm.normalized_shape[0])
    ends = context * predictor.input_dim + (context + targets) * 2 * width
    ends += 2 * targets * predictor.output_dim  # the prediction, and its difference to the target
    return ends + _kept_by_transformer(predictor.transformer, context + targets, again=again)
