"""Encoders that are collapsed on purpose, each in its own way, by their weights alone."""

import torch

from jepa.models import VideoEncoder

SETTINGS = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8}
SETTINGS |= {"dim": 48, "depth": 2, "num_heads": 4}


def fresh(seed=0, **options):
    torch.manual_seed(seed)
    return VideoEncoder(**(SETTINGS | options)).eval()


@torch.no_grad()
def constant():
    """All tokens are the bias of the last norm."""
    encoder = fresh(1)
    encoder.transformer.norm.weight.zero_()
    encoder.transformer.norm.bias.normal_()
    return encoder


@torch.no_grad()
def one_dimension():
    """All dimensions but one are constant."""
    encoder = fresh(1)
    encoder.transformer.norm.weight.zero_()
    encoder.transformer.norm.weight[3] = 1.0
    return encoder


@torch.no_grad()
def few_directions(count):
    """All that is written into the residual stream lies in a few directions, turned at random."""
    encoder = fresh(1)
    directions, _ = torch.linalg.qr(torch.randn(encoder.dim, count))
    onto = directions @ directions.T
    embed = encoder.patch_embed
    embed.weight.copy_((onto @ embed.weight.flatten(1)).view_as(embed.weight))
    for block in encoder.transformer.blocks:
        for linear in (block.attn.proj, block.mlp[2]):
            linear.weight.copy_(onto @ linear.weight)
    return encoder


@torch.no_grad()
def tokens_all_equal():
    """Every token is its clip's mean: clips differ, places do not."""
    encoder = fresh(1)
    encoder.patch_embed.weight.mul_(1e-3)
    attention = encoder.transformer.blocks[0].attn
    attention.qkv.weight[: 2 * encoder.dim].zero_()  # looks everywhere alike
    attention.proj.weight.mul_(100)
    return encoder


@torch.no_grad()
def clips_all_equal():
    """Tokens tell their place and nothing of the clip."""
    encoder = fresh(1, positions="sincos_3d")
    encoder.patch_embed.weight.zero_()
    return encoder


KINDS = {
    "constant": constant,
    "one_dimension": one_dimension,
    "one_direction": lambda: few_directions(1),
    "two_directions": lambda: few_directions(2),
    "tokens_all_equal": tokens_all_equal,
    "clips_all_equal": clips_all_equal,
}
