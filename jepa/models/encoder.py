"""The video encoder: a vision transformer over tubelets (V-JEPA 2, arXiv:2506.09985, Sec. 2.1).

One class for V-JEPA, V-JEPA 2, 2.1 and I-JEPA: what differs is said by its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jepa.models.eager_cpu import runs_on_eager_cpu
from jepa.models.linear import linear
from jepa.models.pixels import normalize_pixels
from jepa.models.positions import Positions, PositionStyle, refuse_wrong_ids
from jepa.models.settings import refuse_wrong_counts, refuse_wrong_ratios
from jepa.models.transformer import NORM_EPS, Transformer

Grid = tuple[int, int, int]


class VideoEncoder(nn.Module):
    """Video to tokens; given ids, only those tokens are embedded and encoded.

    Any size that the tubelets divide may come in; square or not. A single frame is an image: it has
    its own tokenizer, or is doubled to fill a tubelet.

    Args:
        image_size: height and width that the encoder is made for, in pixels.
        clip_length_frames: frames of a clip that the encoder is made for.
        patch_size: height and width of a tubelet in pixels.
        tubelet_size: length of a tubelet in frames.
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12 if rotary.
        mlp_ratio: hidden width of the MLP over dim.
        positions: see `jepa.models.positions.Positions`.
        rope_grid: see `jepa.models.positions.Positions`.
        levels: blocks, from 0, whose outputs have a norm of their own, ascending, the last block
            last (V-JEPA 2.1); None: one norm for all.
        has_image_tokenizer: single frames have their own patch embedding, and tokens an embedding
            that tells videos from images (V-JEPA 2.1).

    Raises:
        ValueError: if the settings do not fit one another.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        clip_length_frames: int = 16,
        patch_size: int = 16,
        tubelet_size: int = 2,
        dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        positions: PositionStyle = "rope_interleaved",
        rope_grid: int | None = None,
        levels: Sequence[int] | None = None,
        has_image_tokenizer: bool = False,
    ) -> None:
        super().__init__()
        refuse_wrong_counts(
            image_size=image_size,
            clip_length_frames=clip_length_frames,
            patch_size=patch_size,
            tubelet_size=tubelet_size,
            dim=dim,
            depth=depth,
            num_heads=num_heads,
        )
        refuse_wrong_ratios(mlp_ratio=mlp_ratio)
        self.level_indices = _checked_levels(levels, depth)
        self.config = {
            "image_size": image_size,
            "clip_length_frames": clip_length_frames,
            "patch_size": patch_size,
            "tubelet_size": tubelet_size,
            "dim": dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "positions": positions,
            "rope_grid": rope_grid,
            "levels": None if levels is None else list(levels),
            "has_image_tokenizer": has_image_tokenizer,
        }
        self.dim, self.num_heads = dim, num_heads
        self.tubelet = (tubelet_size, patch_size, patch_size)
        self.grid = self.grid_of((clip_length_frames, image_size, image_size))
        self.patch_embed = nn.Conv3d(3, dim, kernel_size=self.tubelet, stride=self.tubelet)
        self.positions = Positions(
            positions, dim=dim, num_heads=num_heads, grid=self.grid, rope_grid=rope_grid
        )
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        earlier = self.level_indices[:-1]  # the norm of the last level is the transformer's
        self.level_norms = nn.ModuleList([nn.LayerNorm(dim, eps=NORM_EPS) for _ in earlier])
        embeds, image_tubelet = [self.patch_embed], (1, patch_size, patch_size)
        self.image_embed, self.modality_embed = None, None
        if has_image_tokenizer:
            self.image_embed = nn.Conv3d(3, dim, kernel_size=image_tubelet, stride=image_tubelet)
            self.modality_embed = nn.Parameter(1e-6 * torch.randn(2, dim))  # video, image
            embeds.append(self.image_embed)
        for embed in embeds:
            nn.init.trunc_normal_(embed.weight, std=0.02)
            nn.init.zeros_(embed.bias)  # pyright: ignore[reportArgumentType]

    def grid_of(self, size: tuple[int, int, int]) -> Grid:
        """Returns (time, height, width) in tokens of a video of `size` in frames and pixels.

        A single frame is one token long, whatever the tubelet.

        Raises:
            ValueError: if a tubelet does not divide the video.
        """
        steps = (1, *self.tubelet[1:]) if size[0] == 1 else self.tubelet
        for axis, length, step in zip(("time", "height", "width"), size, steps, strict=True):
            if length < step or length % step:
                low = max(step, length // step * step)
                raise ValueError(
                    f"video {axis} {length} is not a multiple of the tubelet's {step}; "
                    f"use {low} or {low + step}"
                )
        time, height, width = (n // s for n, s in zip(size, steps, strict=True))
        return time, height, width

    def forward(self, video: Tensor, *, token_ids: Tensor | None = None) -> Tensor:
        """Encodes.

        Args:
            video: (batch, 3, time, height, width): pixels as uint8 in [0, 255], for an encoder of
                any precision; or floats that `normalize_pixels` has normalised, in the encoder's
                own. One frame is an image.
            token_ids: (batch, context) ids of the tokens to keep, flat over (time, height, width);
                None keeps all. Their range is checked on the CPU only, see `refuse_wrong_ids`.

        Returns:
            (batch, tokens, dim), or (batch, context, dim).

        Raises:
            ValueError: if the layout, the type, the size or the ids do not fit.
        """
        return self.transformer(*self._embed(video, token_ids))

    def layers(
        self, video: Tensor, indices: Sequence[int], *, token_ids: Tensor | None = None
    ) -> list[Tensor]:
        """Encodes, and returns what intermediate blocks put out, normed.

        Args:
            video: as for `forward`.
            indices: blocks, from 0, ascending. An encoder with levels has norms for these only.
            token_ids: as for `forward`.

        Returns:
            For each index (batch, tokens, dim), through the encoder's last norm, or that of the
            level.

        Raises:
            ValueError: as `forward`, or if there is no such block or no norm for it.
        """
        norms = self._norms_of(indices)
        outputs = self.transformer.layers(*self._embed(video, token_ids), indices)
        return [norm(output) for norm, output in zip(norms, outputs, strict=True)]

    def levels(self, video: Tensor, *, token_ids: Tensor | None = None) -> Tensor:
        """Encodes, and returns all levels side by side: what a multi-level predictor takes.

        Returns:
            (batch, tokens, levels * dim), shallow to deep; of an encoder without levels its tokens.
        """
        if len(self.level_indices) == 1:
            return self(video, token_ids=token_ids)
        return torch.cat(self.layers(video, self.level_indices, token_ids=token_ids), dim=-1)

    def patchify(self, video: Tensor) -> Tensor:
        """Cuts video (batch, 3, time, height, width) into tubelets (batch, tokens, values).

        The order of the 3 * frames * patch_size ** 2 values is that of a row of the embedding's
        flattened weight. A single frame is cut for the image tokenizer if there is one, else
        doubled to fill a tubelet.

        Raises:
            ValueError: if the layout is another one, or a tubelet does not divide the video.
        """
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(
                f"video must be (batch, 3, time, height, width), got {tuple(video.shape)}"
            )
        time, height, width = self.grid_of(_size(video))
        tubelet, patch, _ = self.tubelet
        if video.shape[2] == 1 and self.image_embed is not None:
            tubelet = 1
        elif video.shape[2] == 1:
            video = video.expand(-1, -1, tubelet, -1, -1)
        x = video.reshape(-1, 3, time, tubelet, height, patch, width, patch)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7)  # the layout of the convolution's weight
        return x.flatten(4).flatten(1, 3)  # (batch, tokens, values of a tubelet)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encodes every frame on its own, as a still video of one tubelet (V-JEPA 2-AC, Sec. 3).

        Args:
            frames: (batch, 3, time, height, width), pixels as for `forward`.

        Returns:
            (batch, time, tokens of one frame, dim).

        Raises:
            ValueError: if the layout or the size does not fit.
        """
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise ValueError(
                f"frames must be (batch, 3, time, height, width), got {tuple(frames.shape)}"
            )
        batch, _, time = frames.shape[:3]
        stills = frames.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (batch * time, 3, 1, h, w)
        tokens = self(stills.expand(-1, -1, self.tubelet[0], -1, -1))
        return tokens.unflatten(0, (batch, time))

    def _embed(self, video: Tensor, token_ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns tokens (batch, context, dim) and their rotary table."""
        if video.dtype == torch.uint8:
            video = normalize_pixels(video).to(self.patch_embed.weight.dtype)
        elif not video.is_floating_point():
            raise ValueError(
                "video must be uint8 in [0, 255], or floats that normalize_pixels has normalised; "
                f"got {video.dtype}"
            )
        patches = self.patchify(video)  # (batch, tokens, values of a tubelet)
        if token_ids is not None and (token_ids.ndim != 2 or len(token_ids) != len(video)):
            raise ValueError(
                f"token_ids must be (batch={len(video)}, context), got {tuple(token_ids.shape)}"
            )
        if token_ids is not None:  # gather before embedding: hidden pixels cost nothing
            refuse_wrong_ids(self.grid_of(_size(video)), token_ids=token_ids)
            patches = take_tokens(patches, token_ids)
        is_image = video.shape[2] == 1 and self.image_embed is not None
        embed: Any = self.image_embed if is_image else self.patch_embed
        tokens = linear(patches, embed.weight.flatten(1), embed.bias)
        tokens, table = self.positions(tokens, self.grid_of(_size(video)), token_ids=token_ids)
        if self.modality_embed is not None:
            tokens = tokens + self.modality_embed[int(is_image)]
        return tokens, table

    def _norms_of(self, indices: Sequence[int]) -> list[nn.Module]:
        depth = len(self.transformer.blocks)
        if not indices or list(indices) != sorted({i for i in indices if 0 <= i < depth}):
            raise ValueError(
                f"layers must be ascending block indices from 0 to {depth - 1}, got {list(indices)}"
            )
        if not self.level_norms:
            return [self.transformer.norm] * len(indices)
        norms = dict(
            zip(self.level_indices, [*self.level_norms, self.transformer.norm], strict=True)
        )
        if unknown := [index for index in indices if index not in norms]:
            raise ValueError(
                f"this encoder has norms for the layers {sorted(norms)} only, not for {unknown}"
            )
        return [norms[index] for index in indices]


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Gathers tokens (batch, tokens, dim) at ids (batch, kept): (batch, kept, dim)."""
    if not tokens.requires_grad and runs_on_eager_cpu(tokens, ids):  # whole rows: 6 times faster
        return tokens[torch.arange(len(ids)).unsqueeze(1), ids]
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _size(video: Tensor) -> tuple[int, int, int]:
    time, height, width = video.shape[2:]
    return time, height, width


def _checked_levels(levels: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if levels is None:
        return (depth - 1,)
    if not isinstance(levels, (list, tuple)) or any(type(level) is not int for level in levels):
        raise ValueError(f"levels must be a list of whole numbers, got {levels!r}")
    if (
        not levels
        or list(levels) != sorted({i for i in levels if i >= 0})
        or levels[-1] != depth - 1
    ):
        raise ValueError(
            f"levels must be ascending block indices that end with the last, {depth - 1}; "
            f"got {list(levels)}"
        )
    return tuple(levels)
