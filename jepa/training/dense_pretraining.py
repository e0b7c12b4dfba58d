"""Dense masked-latent pretraining (V-JEPA 2.1, arXiv:2603.14482): all tokens, several levels.

Beside what is hidden, the latents of visible places are predicted too, so every token has to say
what is where it is; and targets are the latents of several depths, so that shallow ones learn it
as well. Only both together help: the context term alone costs accuracy (Table 1 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from jepa.masking import Mask
from jepa.models import MaskedLatentPredictor, VideoEncoder, take_tokens
from jepa.models.encoder import Grid
from jepa.objectives import DenseL1, LossTerms, Objective, mean_terms
from jepa.training.pretraining import Pretraining


class DensePrediction(NamedTuple):
    """What was predicted from one mask's context.

    Attributes:
        targets: (batch, targets, levels * dim), latents at hidden places.
        context: (batch, context, levels * dim), latents at visible places.
    """

    targets: Tensor
    context: Tensor


class DensePretraining(Pretraining):
    """Trains a video encoder from clips (and images) by predicting every token at every level.

    Args:
        encoder: the online encoder, with `levels`.
        predictor: with `predicts_context`, and `num_levels` as many as the encoder's.
        objective: None: `DenseL1` as in the paper.
        options: see `Pretraining`.

    Raises:
        ValueError: if the predictor does not predict the context, or other levels.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        *,
        objective: DenseL1 | None = None,
        **options: Any,  # noqa: ANN401 - those of Pretraining, which refuses all others
    ) -> None:
        objective = objective or DenseL1(num_levels=len(encoder.level_indices))
        super().__init__(encoder, predictor, objective=objective, **options)
        self.objective: DenseL1 = objective

    def refuse_misfit(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        objective: Objective | None,
    ) -> None:
        """Raises unless all levels of the encoder are predicted, at visible places too."""
        if predictor.context_proj is None:
            raise ValueError(
                "DensePretraining needs a predictor with predicts_context=true: it predicts the "
                "visible places too"
            )
        num_levels = len(encoder.level_indices)
        if isinstance(objective, DenseL1) and objective.num_levels != num_levels:
            raise ValueError(
                f"objective.num_levels={objective.num_levels} must be that of the encoder's "
                f"levels, {num_levels}"
            )
        if predictor.input_dim != self.context_dim(encoder):
            raise ValueError(
                f"predictor.num_levels x encoder_dim = {predictor.input_dim} must be the encoder's "
                f"{num_levels} levels x {encoder.dim}"
            )

    def context_dim(self, encoder: VideoEncoder) -> int:
        """All levels come side by side."""
        return len(encoder.level_indices) * encoder.dim

    def target(self, video: Tensor) -> Tensor:
        """Returns all levels of all places: (batch, tokens, levels * dim)."""
        return self.target_encoder.levels(video)

    def predict(self, video: Tensor, masks: Sequence[Mask]) -> list[DensePrediction]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Predicts all places from what each mask shows."""
        grid = self._grid(video)
        predictions = []
        for mask in masks:
            targets, context = self.predictor.predict_all(
                self.encoder.levels(video, token_ids=mask.context_ids),
                context_ids=mask.context_ids,
                target_ids=mask.target_ids,
                grid=grid,
                modality="image" if video.shape[2] == 1 else "video",
            )
            predictions.append(DensePrediction(targets, context))
        return predictions

    def compare(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        predicted: Sequence[DensePrediction],
        target: Tensor,
        masks: Sequence[Mask],
        *,
        grid: Grid,
    ) -> LossTerms:
        """Compares hidden and visible places with the target: the mean over masks."""
        pairs = zip(predicted, masks, strict=True)
        return mean_terms([self._terms(one, target, mask, grid) for one, mask in pairs])

    def _terms(
        self, predicted: DensePrediction, target: Tensor, mask: Mask, grid: Grid
    ) -> LossTerms:
        hidden = self.objective(predicted.targets, take_tokens(target, mask.target_ids))
        visible = self.objective.context(
            predicted.context,
            take_tokens(target, mask.context_ids),
            context_ids=mask.context_ids,
            target_ids=mask.target_ids,
            grid=grid,
            step=self.global_step if self.training else self.objective.warmup_end_step,
        )
        return LossTerms(hidden.total + visible.total, hidden.parts | visible.parts)
