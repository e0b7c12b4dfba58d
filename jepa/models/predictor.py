"""The masked-latent predictor: context tokens and mask tokens in, target latents out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa.models.rope import grid_coordinates, rope_angles, rotation
from jepa.models.transformer import Transformer


class MaskedLatentPredictor(nn.Module):
    """Predicts the latents at hidden places from the visible ones.

    As in V-JEPA (arXiv:2404.08471, Sec. 3), but with rotary positions, as in V-JEPA 2. With them
    attention does not depend on the order of its tokens: context and targets are concatenated.

    Args:
        encoder_dim: width of the encoder's tokens, in and out.
        dim: width of the predictor.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12.
        mlp_ratio: hidden width of the MLP over dim.
    """

    def __init__(
        self,
        *,
        encoder_dim: int = 1024,
        dim: int = 384,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.dim, self.num_heads = dim, num_heads
        self.embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.proj = nn.Linear(dim, encoder_dim)
        for linear in (self.embed, self.proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        context: Tensor,
        *,
        context_ids: Tensor,
        target_ids: Tensor,
        grid: tuple[int, int, int],
    ) -> Tensor:
        """Predicts.

        Args:
            context: (batch, context, encoder_dim), encoded visible tokens.
            context_ids: (batch, context), their places, flat over the grid.
            target_ids: (batch, targets), the hidden places asked for.
            grid: (time, height, width) of the clip in tokens.

        Returns:
            (batch, targets, encoder_dim).

        Raises:
            ValueError: if there is not one id for every context token.
        """
        if context.shape[:-1] != context_ids.shape or len(target_ids) != len(context):
            raise ValueError(
                "context must be (batch, context, dim) with context_ids (batch, context) and "
                f"target_ids (batch, targets), got {tuple(context.shape)}, "
                f"{tuple(context_ids.shape)} and {tuple(target_ids.shape)}"
            )
        batch, num_context = context_ids.shape
        masks = self.mask_token.expand(batch, target_ids.shape[1], -1)
        tokens = torch.cat((self.embed(context), masks), dim=1)
        positions = grid_coordinates(grid, context.device)[torch.cat((context_ids, target_ids), 1)]
        angles = rope_angles(positions, head_dim=self.dim // self.num_heads)
        tokens = self.transformer(tokens, rotation(angles))
        return self.proj(tokens[:, num_context:])
