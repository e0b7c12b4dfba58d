"""The online encoder as its own target, for recipes without a teacher."""

from __future__ import annotations

from torch import Tensor

from jepa.models import VideoEncoder


class OnlineTarget:
    """Stands where a `TargetEncoder` stands, and hands the online encoder through.

    No module: the encoder has its owner, and would be saved and counted twice.

    Args:
        encoder: the online encoder, not copied.
    """

    def __init__(self, encoder: VideoEncoder) -> None:
        self.encoder = encoder

    def __call__(self, video: Tensor) -> Tensor:
        """Encodes all tokens of a video, with gradient: (batch, tokens, dim)."""
        return self.encoder(video)

    def levels(self, video: Tensor) -> Tensor:
        """Encodes all tokens, all levels side by side: (batch, tokens, levels * dim)."""
        return self.encoder.levels(video)

    def update(self, encoder: VideoEncoder, *, progress: float) -> None:
        """Does nothing: the target is the encoder."""
