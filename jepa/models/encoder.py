"""The video encoder: a vision transformer over tubelets (V-JEPA 2, arXiv:2506.09985, Sec. 2.1)."""

from __future__ import annotations

from torch import Tensor, nn

from jepa.models.rope import grid_coordinates, rope_angles, rotation
from jepa.models.transformer import Transformer


class VideoEncoder(nn.Module):
    """Video to tokens; given ids, only those tokens are embedded and encoded.

    Positions are rotary, so any size that the tubelets divide may come in.

    Args:
        image_size: height and width that the encoder is made for, in pixels.
        clip_length_frames: frames of a clip that the encoder is made for.
        patch_size: height and width of a tubelet in pixels.
        tubelet_size: length of a tubelet in frames.
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12.
        mlp_ratio: hidden width of the MLP over dim.
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
    ) -> None:
        super().__init__()
        self.config = {
            "image_size": image_size,
            "clip_length_frames": clip_length_frames,
            "patch_size": patch_size,
            "tubelet_size": tubelet_size,
            "dim": dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
        }
        self.dim, self.num_heads = dim, num_heads
        self.tubelet = (tubelet_size, patch_size, patch_size)
        self.grid = self.grid_of((clip_length_frames, image_size, image_size))
        self.patch_embed = nn.Conv3d(3, dim, kernel_size=self.tubelet, stride=self.tubelet)
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        nn.init.trunc_normal_(self.patch_embed.weight, std=0.02)
        nn.init.zeros_(self.patch_embed.bias)  # pyright: ignore[reportArgumentType]

    def grid_of(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns (time, height, width) in tokens of a video of `size` in frames and pixels.

        Raises:
            ValueError: if a tubelet does not divide the video.
        """
        for axis, length, step in zip(("time", "height", "width"), size, self.tubelet, strict=True):
            if length < step or length % step:
                low = max(step, length // step * step)
                raise ValueError(
                    f"video {axis} {length} is not a multiple of the tubelet's {step}; "
                    f"use {low} or {low + step}"
                )
        time, height, width = (n // s for n, s in zip(size, self.tubelet, strict=True))
        return time, height, width

    def forward(self, video: Tensor, *, token_ids: Tensor | None = None) -> Tensor:
        """Encodes.

        Args:
            video: (batch, 3, time, height, width), normalised pixels.
            token_ids: (batch, context) ids of the tokens to keep, flat over (time, height, width);
                None keeps all.

        Returns:
            (batch, tokens, dim), or (batch, context, dim).

        Raises:
            ValueError: if the layout, the size or the ids do not fit.
        """
        patches = self.patchify(video)  # (batch, tokens, values of a tubelet)
        positions = grid_coordinates(self.grid_of(_size(video)), video.device)  # (tokens, 3)
        if token_ids is not None and (token_ids.ndim != 2 or len(token_ids) != len(video)):
            raise ValueError(
                f"token_ids must be (batch={len(video)}, context), got {tuple(token_ids.shape)}"
            )
        if token_ids is not None:  # gather before embedding: hidden pixels cost nothing
            patches = take_tokens(patches, token_ids)
            positions = positions[token_ids]  # (batch, context, 3)
        weight, bias = self.patch_embed.weight.flatten(1), self.patch_embed.bias
        tokens = nn.functional.linear(patches, weight, bias)  # (batch, context, dim)
        angles = rope_angles(positions, head_dim=self.dim // self.num_heads)
        return self.transformer(tokens, rotation(angles))

    def patchify(self, video: Tensor) -> Tensor:
        """Cuts video (batch, 3, time, height, width) into tubelets (batch, tokens, values).

        The order of the 3 * tubelet_size * patch_size ** 2 values is that of a row of
        `patch_embed.weight.flatten(1)`.

        Raises:
            ValueError: if the layout is another one, or a tubelet does not divide the video.
        """
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(
                f"video must be (batch, 3, time, height, width), got {tuple(video.shape)}"
            )
        time, height, width = self.grid_of(_size(video))
        tubelet, patch, _ = self.tubelet
        x = video.reshape(-1, 3, time, tubelet, height, patch, width, patch)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7)  # the layout of the convolution's weight
        return x.flatten(4).flatten(1, 3)  # (batch, tokens, values of a tubelet)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encodes every frame on its own, as a still video of one tubelet (V-JEPA 2-AC, Sec. 3).

        Args:
            frames: (batch, 3, time, height, width), normalised pixels.

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


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Gathers tokens (batch, tokens, dim) at ids (batch, kept): (batch, kept, dim)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _size(video: Tensor) -> tuple[int, int, int]:
    time, height, width = video.shape[2:]
    return time, height, width
