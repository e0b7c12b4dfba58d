"""The masked-latent predictor: context tokens and mask tokens in, target latents out."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from jepa.models.linear import Linear
from jepa.models.positions import Positions, PositionStyle, checked_grid, refuse_wrong_ids
from jepa.models.settings import refuse_wrong_counts
from jepa.models.transformer import Transformer

Modality = Literal["video", "image"]


class MaskedLatentPredictor(nn.Module):
    """Predicts the latents at hidden places from the visible ones.

    As in V-JEPA (arXiv:2404.08471, Sec. 3), V-JEPA 2 (arXiv:2506.09985, Sec. 2) and 2.1
    (arXiv:2603.14482), by the settings. Attention does not depend on the order of its tokens, so
    context and targets are concatenated and need no sorting, where the released rotary models sort.

    Args:
        encoder_dim: width of the encoder's tokens.
        dim: width of the predictor.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12 if rotary.
        mlp_ratio: hidden width of the MLP over dim.
        positions: see `jepa.models.positions.Positions`.
        grid: (time, height, width) in tokens that it is made for; sincos positions need it.
        rope_grid: see `jepa.models.positions.Positions`.
        num_mask_tokens: mask tokens; the released models have several, and not all are trained.
        mask_token_index: the one that is used unless a call says another.
        num_levels: encoder levels that come in, side by side (V-JEPA 2.1: 4).
        output_dim: width of a predicted latent; None: num_levels * encoder_dim.
        predicts_context: predict the latents of context tokens too (V-JEPA 2.1).
        has_modalities: add an embedding that tells videos from images (V-JEPA 2.1).

    Raises:
        ValueError: if the settings do not fit one another.
    """

    def __init__(
        self,
        *,
        encoder_dim: int = 1024,
        dim: int = 384,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        positions: PositionStyle = "rope_interleaved",
        grid: tuple[int, int, int] | None = None,
        rope_grid: int | None = None,
        num_mask_tokens: int = 1,
        mask_token_index: int = 0,
        num_levels: int = 1,
        output_dim: int | None = None,
        predicts_context: bool = False,
        has_modalities: bool = False,
    ) -> None:
        super().__init__()
        refuse_wrong_counts(
            encoder_dim=encoder_dim,
            dim=dim,
            num_heads=num_heads,
            num_mask_tokens=num_mask_tokens,
            num_levels=num_levels,
        )
        if output_dim is not None:
            refuse_wrong_counts(output_dim=output_dim)
        self.config = {
            "encoder_dim": encoder_dim,
            "dim": dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "positions": positions,
            "grid": grid,
            "rope_grid": rope_grid,
            "num_mask_tokens": num_mask_tokens,
            "mask_token_index": mask_token_index,
            "num_levels": num_levels,
            "output_dim": output_dim,
            "predicts_context": predicts_context,
            "has_modalities": has_modalities,
        }
        self.input_dim = num_levels * encoder_dim
        self.output_dim = output_dim or self.input_dim
        self.mask_tokens = nn.Parameter(torch.zeros(num_mask_tokens, dim))
        self.mask_token_index = self._checked(mask_token_index)
        self.embed = _embedding(encoder_dim, dim, num_levels=num_levels)
        self.positions = Positions(
            positions,
            dim=dim,
            num_heads=num_heads,
            grid=None if grid is None else checked_grid(grid),
            rope_grid=rope_grid,
        )
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.proj = Linear(dim, self.output_dim)
        self.context_proj = Linear(dim, self.output_dim) if predicts_context else None
        self.modality_embed = nn.Parameter(torch.zeros(2, dim)) if has_modalities else None
        for linear in (*self.embed.modules(), self.proj, self.context_proj):
            if isinstance(linear, nn.Linear):
                nn.init.trunc_normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        context: Tensor,
        *,
        context_ids: Tensor,
        target_ids: Tensor,
        grid: tuple[int, int, int],
        mask_token_index: int | None = None,
        modality: Modality = "video",
    ) -> Tensor:
        """Predicts.

        Args:
            context: (batch, context, num_levels * encoder_dim), encoded visible tokens.
            context_ids: (batch, context), their places, flat over the grid.
            target_ids: (batch, targets), the hidden places asked for.
            grid: (time, height, width) of the clip in tokens.
            mask_token_index: the mask token that asks; None: the one of the settings.
            modality: what the tokens come from; makes a difference if has_modalities only.

        Returns:
            (batch, targets, output_dim).

        Raises:
            ValueError: if there is not one id for every context token, an id is no place in the
                grid (which is checked on the CPU only, see `refuse_wrong_ids`), or there is no such
                mask token or modality.
        """
        tokens, table = self._embed(
            context, context_ids, target_ids, grid, mask_token_index, modality
        )
        return self.proj(self.transformer(tokens, table, first_output=context_ids.shape[1]))

    def predict_all(
        self,
        context: Tensor,
        *,
        context_ids: Tensor,
        target_ids: Tensor,
        grid: tuple[int, int, int],
        mask_token_index: int | None = None,
        modality: Modality = "video",
    ) -> tuple[Tensor, Tensor]:
        """Predicts targets as `forward` does, and context tokens as well.

        Returns:
            (batch, targets, output_dim) and (batch, context, output_dim).

        Raises:
            ValueError: as `forward`, or if the predictor was made without predicts_context.
        """
        if self.context_proj is None:
            raise ValueError("this predictor has predicts_context=False: it predicts targets only")
        tokens, table = self._embed(
            context, context_ids, target_ids, grid, mask_token_index, modality
        )
        tokens = self.transformer(tokens, table)
        num_context = context_ids.shape[1]
        return self.proj(tokens[:, num_context:]), self.context_proj(tokens[:, :num_context])

    def use_mask_token(self, index: int) -> None:
        """Makes another mask token the one that is used unless a call says another.

        Raises:
            ValueError: if there is no such mask token.
        """
        self.mask_token_index = self._checked(index)
        self.config["mask_token_index"] = index

    def _embed(
        self,
        context: Tensor,
        context_ids: Tensor,
        target_ids: Tensor,
        grid: tuple[int, int, int],
        mask_token_index: int | None,
        modality: Modality,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns tokens (batch, context + targets, dim) and their rotary table."""
        _refuse_misfit(context, context_ids, target_ids, self.input_dim)
        refuse_wrong_ids(grid, context_ids=context_ids, target_ids=target_ids)
        if modality not in get_args(Modality):
            known = ", ".join(get_args(Modality))
            raise ValueError(f"modality must be one of {known}; got {modality!r}")
        index = self.mask_token_index if mask_token_index is None else mask_token_index
        masks = self.mask_tokens[self._checked(index)].expand(*target_ids.shape, -1)
        tokens = torch.cat((self.embed(context), masks), dim=1)
        ids = torch.cat((context_ids, target_ids), dim=1)
        tokens, table = self.positions(tokens, grid, token_ids=ids)
        if self.modality_embed is not None:
            tokens = tokens + self.modality_embed[("video", "image").index(modality)]
        return tokens, table

    def _checked(self, index: int) -> int:
        if type(index) is not int or not 0 <= index < len(self.mask_tokens):
            raise ValueError(
                f"mask_token_index must be 0 to {len(self.mask_tokens) - 1}, got {index!r}"
            )
        return index


def _embedding(encoder_dim: int, dim: int, *, num_levels: int) -> nn.Module:
    if num_levels == 1:
        return Linear(encoder_dim, dim)
    fuse = Linear(num_levels * encoder_dim, encoder_dim)
    return nn.Sequential(fuse, nn.GELU(), Linear(encoder_dim, dim))


def _refuse_misfit(context: Tensor, context_ids: Tensor, target_ids: Tensor, dim: int) -> None:
    if context.shape[:-1] != context_ids.shape or target_ids.shape[0] != context.shape[0]:
        raise ValueError(
            "context must be (batch, context, dim) with context_ids (batch, context) and "
            f"target_ids (batch, targets), got {tuple(context.shape)}, "
            f"{tuple(context_ids.shape)} and {tuple(target_ids.shape)}"
        )
    if context.shape[-1] != dim:
        raise ValueError(f"context tokens must have {dim} channels, got {context.shape[-1]}")
