"""Masked-latent pretraining without a teacher (LeJEPA, arXiv:2511.08544; VICReg, arXiv:2105.04906).

The online encoder is its own target and gradient flows into both sides, so nothing but the
regularizers keeps all clips from having the same latents: they ask the embeddings of a batch to be
spread out, as a standard Gaussian (SIGReg) or with variance and without covariance (VICReg).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_pipelines.batch import ClipBatch
from jepa.masking import Mask, MaskSampler, MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels
from jepa.models.encoder import Grid
from jepa.objectives import (
    LatentMSE,
    LossTerms,
    Objective,
    Regularizer,
    SIGReg,
    TemporalSimilarity,
)
from jepa.objectives.ranks import sum_over_ranks
from jepa.training.collapse import CollapsePolicy
from jepa.training.online_target import OnlineTarget
from jepa.training.pretraining import Pretraining
from jepa.training.sharding import fill, whole_tensor


class RegularizedPretraining(Pretraining):
    """Trains a video encoder from clips, with regularizers in the place of a teacher.

    Predicted and regularized is one and the same: a linear map of the encoder's tokens. (Were the
    tokens predicted and a map of them regularized, the tokens could shrink while the map makes up
    for it.) Statistics are taken over the clips of the batch, at each of a few places by itself:
    over all tokens, places alone would make up the variance.

    At the start the map is scaled so that embeddings vary by 1, see `calibrate`.

    Args:
        encoder: the online encoder, which is the target too.
        predictor: with `embedding_dim` as its `output_dim`.
        regularizers: each adds its loss; their weights are their own. None: `SIGReg`. Of an empty
            list the representation collapses, which is there to be seen.
        prediction_weight: weight of the error of predicted latents.
        embedding_dim: width of what is predicted and regularized. Wider than the data's true
            dimension by far, and a Gaussian cannot be reached (LeWM, arXiv:2603.19312).
        num_places: places of a clip whose embeddings are regularized at a step, evenly spread.
        masks: None: one mask of 8 blocks that hides half. There is no teacher's pass to share.
        objective: None: `LatentMSE`, with gradient into the target.
        collapse_policy: None: a floor of 0.05 of what should vary by 1, and of a fifth of the
            dimensions of what should fill them all.
        options: see `Pretraining`; there is no teacher, so `ema_momentum` has no use here.

    Raises:
        ValueError: if a weight or a width is out of range.
    """

    is_calibrated: Tensor

    def __init__(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        *,
        regularizers: list[Regularizer] | None = None,
        prediction_weight: float = 1.0,
        embedding_dim: int = 64,
        num_places: int = 16,
        masks: list[MaskSampler] | None = None,
        objective: Objective | None = None,
        collapse_policy: CollapsePolicy | None = None,
        **options: Any,  # noqa: ANN401 - those of Pretraining, which refuses all others
    ) -> None:
        super().__init__(
            encoder,
            predictor,
            masks=masks or [MultiBlock(num_blocks=8, target_fraction=0.5)],
            objective=objective or LatentMSE(stop_gradient=False),
            collapse_policy=collapse_policy or CollapsePolicy(min_std=0.05, min_rank_fraction=0.2),
            **options,
        )
        if num_places < 1 or not prediction_weight > 0:
            raise ValueError(
                "num_places must be at least 1 and prediction_weight above 0, got "
                f"{num_places} and {prediction_weight}"
            )
        if predictor.output_dim != embedding_dim:
            raise ValueError(
                f"the predictor puts out {predictor.output_dim} channels, what it predicts has "
                f"{embedding_dim}: set predictor.output_dim={embedding_dim}"
            )
        if any(isinstance(regularizer, TemporalSimilarity) for regularizer in regularizers or []):
            raise ValueError(
                "TemporalSimilarity compares neighbouring times, and what is regularized here are "
                "places of clips: it is for jepa.training.joint_training.JointTraining"
            )
        self.regularizers = nn.ModuleList([SIGReg()] if regularizers is None else regularizers)
        self.projector = nn.Linear(encoder.dim, embedding_dim)
        self.prediction_weight, self.num_places = prediction_weight, num_places
        self.register_buffer("is_calibrated", torch.tensor(False))
        self._has_looked = False

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """As ever, after the projector was scaled by the first batch of all."""
        if not self._has_looked and not self.is_calibrated:
            self.is_calibrated.fill_(self.calibrate(normalize_pixels(batch.video)))
        self._has_looked = bool(self._has_looked or self.is_calibrated)  # on a GPU, a look waits
        return super().training_step(batch, batch_idx)

    @torch.no_grad()
    def calibrate(self, video: Tensor) -> bool:
        """Scales the projector so that embeddings of clips vary by 1 about 0.

        Tokens of clips of one scene differ little at first, where SIGReg has hardly a slope. LeWM
        has a batch norm for this, whose statistics would have to be those of all ranks each step.

        Args:
            video: the first batch of this rank; every rank has to call this.

        Returns:
            False, and nothing is scaled, if embeddings are no numbers: the next batch may do.
        """
        embeddings = self.target(video).float()  # (batch, tokens, embedding_dim)
        rows = sum_over_ranks(embeddings.new_tensor(float(len(embeddings))))
        mean = sum_over_ranks(embeddings.sum(0)) / rows
        variance = sum_over_ranks((embeddings - mean).square().sum(0)) / rows
        std = variance.sqrt().mean().clamp_min(1e-6).item()
        if not math.isfinite(std):
            return False
        weight, bias = self.projector.weight, self.projector.bias
        fill(weight, whole_tensor(weight) / std)
        fill(bias, (whole_tensor(bias) - mean.mean(0)) / std)
        return True

    def target(self, video: Tensor) -> Tensor:
        """Returns the embeddings of all places, with gradient: (batch, tokens, embedding_dim)."""
        return self.projector(self.encoder(video))

    def compare(
        self, predicted: Sequence[Tensor], target: Tensor, masks: Sequence[Mask], *, grid: Grid
    ) -> LossTerms:
        """Error of the prediction, and how far the batch's embeddings are from well spread.

        In evaluation of the prediction alone: a last batch may be too small for statistics.
        """
        prediction = super().compare(predicted, target, masks, grid=grid)
        if not self.training:
            return prediction
        total, parts = self.prediction_weight * prediction.total, dict(prediction.parts)
        places = self.regularized_places(target.shape[1], device=target.device)
        embeddings = target[:, places].transpose(0, 1)  # (places, batch, embedding_dim)
        for regularizer in self.regularizers:
            terms = regularizer(embeddings, step=self.global_step)
            total = total + terms.total
            parts |= terms.parts
        return LossTerms(total, parts)

    def regularized_places(self, num_tokens: int, *, device: torch.device) -> Tensor:
        """Returns places that move on by one with every step: (at most num_places,)."""
        spacing = max(num_tokens // self.num_places, 1)
        first = self.global_step % spacing
        return torch.arange(first, num_tokens, spacing, device=device)[: self.num_places]

    def make_target_encoder(
        self, encoder: VideoEncoder, *, momentum: tuple[float, float]
    ) -> OnlineTarget:
        """The online encoder is the target."""
        return OnlineTarget(encoder)

    def target_network(self) -> tuple[VideoEncoder, bool]:
        """The online encoder, with gradient."""
        return self.encoder, True

    def trained_modules(self) -> list[nn.Module]:
        """Encoder, predictor, projector, and what the regularizers learn."""
        modules = [*super().trained_modules(), self.projector]
        return [*modules, self.regularizers] if list(self.regularizers.parameters()) else modules
