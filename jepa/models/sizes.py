"""The published sizes of encoders, by the names of the papers."""

from __future__ import annotations

from typing import NamedTuple


class EncoderSize(NamedTuple):
    """Width and depth of a vision transformer.

    Attributes:
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLP over dim.
        levels: blocks whose outputs V-JEPA 2.1 supervises (arXiv:2603.14482); None: not published.
    """

    dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    levels: tuple[int, ...] | None = None


ENCODER_SIZES = {
    "tiny": EncoderSize(192, 12, 3, levels=(2, 5, 8, 11)),
    "small": EncoderSize(384, 12, 6, levels=(2, 5, 8, 11)),
    "base": EncoderSize(768, 12, 12, levels=(2, 5, 8, 11)),
    "large": EncoderSize(1024, 24, 16, levels=(5, 11, 17, 23)),
    "huge": EncoderSize(1280, 32, 16),
    "giant": EncoderSize(1408, 40, 22, 48 / 11, (9, 19, 29, 39)),  # g: 22 heads, MLP of 6144
    "gigantic": EncoderSize(1664, 48, 26, 64 / 13, (11, 23, 37, 47)),  # G: 26 heads, MLP of 8192
}
