"""What a checkpoint holds, in one piece: an encoder, and whatever was trained with it or on it."""

from __future__ import annotations

from pathlib import Path

import torch
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

    def top_classes(self, video: Tensor, k: int = 5) -> list[dict[str, list[tuple[str, float]]]]:
        """Returns what the probe takes each clip of video for, the most probable class first.

        Args:
            video: as that of `classify`.
            k: how many classes of each head; of a head that has fewer, all.

        Returns:
            For every clip, by the name of the head: k names of classes, or their indices as strings
            if the probe has no names, with their probabilities, the softmax of the logits.

        Raises:
            ValueError: if the checkpoint holds no probe, or k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        with torch.no_grad():
            logits = self.classify(video)
        assert self.probe is not None
        clips: list[dict[str, list[tuple[str, float]]]] = [{} for _ in range(len(video))]
        for head, values in logits.items():  # (batch, classes)
            # Ordered by logits: far behind the first, probabilities are all 0.
            best = values.topk(min(k, values.shape[-1])).indices
            probabilities = values.float().softmax(-1).gather(-1, best)
            rows = zip(clips, best.tolist(), probabilities.tolist(), strict=True)
            for clip, indices, shares in rows:
                names = [self.probe.class_name(head, index) for index in indices]
                clip[head] = list(zip(names, shares, strict=True))
        return clips

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes config.json, model.safetensors and a model card; returns the folder."""
        from jepa.checkpoints.native import save_model

        return save_model(self, folder)
