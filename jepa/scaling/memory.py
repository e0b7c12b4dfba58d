"""Memory of a pretraining step, before it is needed: counted from shapes.

Weights, gradients, optimizer, targets, and what a backward pass keeps of the forward pass. Work
space of kernels and the allocator's fragments come on top: 10 to 20 % on a GPU.

Counted is autocast as it is on a GPU: matrix products in 16 bits, norms and losses in float32. So
half the precision is not half the memory: what goes into a norm stays in float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.transformer import Block, Transformer
from jepa.scaling.flops import Recipe

MASTER_BYTES = 4  # weights, gradients and averages are float32, whatever the autocast says
FLOAT_BYTES = 4  # norms and losses are float32, whatever the autocast says


class StepMemory(NamedTuple):
    """Bytes on one device.

    Attributes:
        weights: of what is trained.
        gradients: of what is trained.
        optimizer: the two moments of AdamW.
        target: weights of what makes the targets or follows the encoder, where it is another one.
        copies: of the weights in 16 bits, which autocast keeps from the forward to the backward
            pass, whole on every device.
        activations: what the backward pass keeps of the forward pass.
    """

    weights: int
    gradients: int
    optimizer: int
    target: int
    copies: int
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
        num_shards: devices that share weights, gradients, moments and frozen modules (FSDP); 1 for
            DDP.
    """
    trained = sum(count_parameters(module) for module in recipe.trained_modules())
    shared = math.ceil(trained * MASTER_BYTES / num_shards)
    kept = kept_bytes_of_a_clip(
        recipe, size, dtype=dtype, checkpoints_activations=checkpoints_activations
    )
    return StepMemory(
        weights=shared,
        gradients=shared,
        optimizer=2 * shared,
        target=_target_bytes(recipe, num_shards),
        copies=0 if dtype.itemsize == MASTER_BYTES else trained * dtype.itemsize,
        activations=batch_size * kept,
    )


def kept_bytes_of_a_clip(
    recipe: Recipe,
    size: tuple[int, int, int],
    *,
    dtype: torch.dtype = torch.float32,
    checkpoints_activations: bool = False,
) -> int:
    """Returns how many bytes the backward pass needs of one clip's forward pass."""
    grid = recipe.encoder.grid_of(size)
    generator = torch.Generator().manual_seed(0)
    masks = recipe.draw_masks(1, grid, is_image=size[0] == 1, generator=generator)
    encoder, again = recipe.encoder, checkpoints_activations
    total = 0
    for mask in masks:
        shown, hidden = mask.context_ids.shape[1], mask.target_ids.shape[1]
        total += _kept_by_encoder(encoder, shown, dtype, again=again)
        total += _kept_by_predictor(recipe.predictor, shown, hidden, dtype, again=again)
    if recipe.target_network()[1]:
        total += _kept_by_encoder(encoder, math.prod(grid), dtype, again=again)
    return total


def kept_bytes_of_a_block(block: Block, num_tokens: int, dtype: torch.dtype) -> int:
    """Returns how many bytes one block keeps of a sequence, with a fused attention.

    In float32 what goes into the two norms; in `dtype` what comes out of them, queries, keys and
    values as they were multiplied, queries and keys again as they were rotated, what attention puts
    out, and the hidden values of the MLP before and after its activation. In 16 bits two copies of
    the rotation as well, which all heads share.
    """
    first, _, second = block.mlp
    dim, hidden = int(second.out_features), int(first.out_features)  # pyright: ignore
    in_dtype = 8 * dim + 2 * hidden
    if dtype.itemsize < FLOAT_BYTES:
        in_dtype += 2 * dim // block.attn.num_heads
    return num_tokens * (2 * dim * FLOAT_BYTES + in_dtype * dtype.itemsize)


def count_parameters(module: nn.Module) -> int:
    """Returns the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _target_bytes(recipe: Recipe, num_shards: int) -> int:
    """What follows the encoder is cut over the devices; a teacher from outside is whole on each."""
    frozen = recipe.frozen_modules()
    total = math.ceil(sum(count_parameters(module) for module in frozen) / num_shards)
    network, is_trained = recipe.target_network()
    if not is_trained and not any(network is module for module in frozen):
        total += count_parameters(network)
    return total * MASTER_BYTES


def _kept_by_transformer(
    transformer: Transformer, num_tokens: int, dtype: torch.dtype, *, again: bool
) -> int:
    depth = len(transformer.blocks)
    if not depth:
        return 0
    block: Block = transformer.blocks[0]  # pyright: ignore[reportAssignmentType]
    of_a_block = kept_bytes_of_a_block(block, num_tokens, dtype)
    if not again:
        return depth * of_a_block
    return depth * num_tokens * _width(transformer) * FLOAT_BYTES + of_a_block


def _kept_by_encoder(
    encoder: VideoEncoder, num_tokens: int, dtype: torch.dtype, *, again: bool
) -> int:
    pixels = 3 * math.prod(encoder.tubelet)
    normed = len(encoder.level_indices) * encoder.dim  # what goes into the last norms
    ends = num_tokens * (pixels * dtype.itemsize + normed * FLOAT_BYTES)
    return ends + _kept_by_transformer(encoder.transformer, num_tokens, dtype, again=again)


def _kept_by_predictor(
    predictor: MaskedLatentPredictor,
    context: int,
    targets: int,
    dtype: torch.dtype,
    *,
    again: bool,
) -> int:
    width = _width(predictor.transformer)
    both = dtype.itemsize + FLOAT_BYTES
    layers = [layer for layer in predictor.embed.modules() if isinstance(layer, nn.Linear)]
    inputs = sum(layer.in_features for layer in layers)
    inputs += layers[0].out_features * (len(layers) - 1)  # before the activation between two
    predicted = targets if predictor.context_proj is None else context + targets
    total = context * inputs * dtype.itemsize
    total += predicted * width * both  # what goes into the last norm, and what comes out
    total += predicted * predictor.output_dim * both  # a prediction, and its difference
    tokens = context + targets
    return total + _kept_by_transformer(predictor.transformer, tokens, dtype, again=again)


def _width(transformer: Transformer) -> int:
    return int(transformer.norm.normalized_shape[0])
