"""The first and a later frame of a window must be recognised as belonging together."""

from __future__ import annotations

from torch import Tensor, nn

from jepa.objectives.base import LossTerms, Regularizer, refuse_negative_weights
from jepa.objectives.contrastive_prediction import contrasted
from jepa.objectives.ranks import rows_of_all_ranks


class TimeContrast(Regularizer):
    """InfoNCE of first and last frames: which end belongs to which beginning?

    No action says what happened in between, so only what hardly changed in that time can tell: the
    slow features of a scene, such as the place and the angle of an object that is seldom pushed,
    and not where the hand is. Time-contrastive learning (Sermanet et al., arXiv:1704.06888; as in
    Laplacian representations, Wu et al., arXiv:1810.04586) with an own linear map, so that the
    embedding keeps what moves as well.

    Args:
        dim: width of an embedding.
        width: of the map's output, in which frames are compared.
        weight: in the loss, beside a prediction of weight 1.
        temperature: squared distances are divided by it.
        shrink: weight of the mapped frames' mean square, which else may grow without end.

    Raises:
        ValueError: if a weight is negative, or a width or the temperature is not positive.
    """

    def __init__(
        self,
        *,
        dim: int,
        width: int = 64,
        weight: float = 1.0,
        temperature: float = 1.0,
        shrink: float = 1e-3,
    ) -> None:
        super().__init__()
        refuse_negative_weights(weight, shrink)
        if min(dim, width) < 1 or not 0 < temperature < float("inf"):
            raise ValueError(
                f"dim, width and temperature must be positive, got {dim}, {width} and {temperature}"
            )
        self.weight, self.temperature, self.shrink = weight, temperature, shrink
        self.slow = nn.Linear(dim, width)

    def terms(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """See `Regularizer.forward`, of embeddings (time, batch, dim).

        Raises:
            ValueError: if there are not at least two frames, or the width differs.
        """
        dim = self.slow.in_features
        if embeddings.ndim != 3 or embeddings.shape[-1] != dim or len(embeddings) < 2:
            raise ValueError(
                f"a contrast in time needs embeddings (time, batch, {dim}) of at least 2 frames, "
                f"got {tuple(embeddings.shape)}"
            )
        mapped = self.slow(embeddings)  # (time, batch, width)
        first, last = mapped[0], mapped[-1]
        if self.training:
            first, last = rows_of_all_ranks(first), rows_of_all_ranks(last)
        ends, told_apart = contrasted(first, last, temperature=self.temperature)
        beginnings, _ = contrasted(last, first, temperature=self.temperature)
        contrast = (ends + beginnings) / 2
        size = self.joined(mapped.square().mean((0, 2)).sum()) / self.num_joined_rows(embeddings)
        loss = self.weight * (contrast + self.shrink * size)
        return LossTerms(loss, {"time_contrast": contrast, "ends_told_apart": told_apart})
