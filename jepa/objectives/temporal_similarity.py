"""Keeps the embeddings of neighbouring frames near each other."""

from __future__ import annotations

from torch import Tensor

from jepa.objectives.base import LossTerms, Regularizer, refuse_negative_weights


class TemporalSimilarity(Regularizer):
    """mean (embedding at t + 1 - embedding at t)^2 (PLDM, arXiv:2502.14819; eb_jepa).

    A constant embedding costs nothing: it goes with VICReg or SIGReg, never alone.

    Args:
        weight: in the loss, beside a prediction of weight 1; 12 in eb_jepa's two rooms, 0.7 in
            PLDM's. It must be found for each data set.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        refuse_negative_weights(weight)
        self.weight = weight

    def terms(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """See `Regularizer.forward`, of embeddings (time, batch, dim).

        One frame has no neighbour and costs 0, so images may come beside videos.

        Raises:
            ValueError: if there is no axis of time.
        """
        if embeddings.ndim != 3:
            raise ValueError(
                f"temporal similarity needs embeddings (time, batch, dim), got "
                f"{tuple(embeddings.shape)}"
            )
        changes = embeddings.diff(dim=0)  # (time - 1, batch, dim)
        loss = changes.square().mean() if len(changes) else 0.0 * embeddings.sum()
        return LossTerms(self.weight * loss, {"temporal_similarity": loss})
