"""What a checkpoint holds, in one piece: an encoder, and whatever was trained with it or on it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from jepa.models.encoder import VideoEncoder
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor


class JepaModel(nn.Module):
    """An encoder with its masked-latent predictor and its attentive probe, where there are any.

    Args:
        encoder: video to tokens.
        predictor: latents at hidden places from those at visible ones.
        probe: classes from tokens.
        source: where the weights come from, one line for the model card.

    Attributes:
        dynamics: None; world models (`jepa.models.world_model.LatentWorldModel`) have one.
    """

    dynamics = None

    def __init__(
        self,
        encoder: VideoEncoder,
        *,
        predictor: MaskedLatentPredictor | None = None,
        probe: AttentiveProbe | None = None,
        source: str = "",
    ) -> None:
        super().__init__()
        self.encoder, self.predictor, self.probe, self.source = encoder, predictor, probe, source

    def forward(self, video: Tensor) -> Tensor:
        """Encodes video (batch, 3, time, height, width): tokens (batch, tokens, dim)."""
        return self.encoder(video)

    def classify(self, video: Tensor) -> dict[str, Tensor]:
        """Returns the probe's logits for video: name -> (batch, classes).

        Raises:
            ValueError: if the checkpoint holds no probe.
        """
        if self.probe is None:
            raise ValueError("this checkpoint holds no probe: it has no classes to tell")
        return self.probe(self.encoder(video))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes config.json, model.safetensors and a model card; returns the folder."""
        from jepa.checkpoints.native import save_model

        return save_model(self, folder)
