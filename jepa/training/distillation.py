"""Distillation: a student predicts what a frozen teacher sees (V-JEPA 2.1, arXiv:2603.14482).

As in pretraining, from what a mask shows of a clip; but the target is a trained encoder, mostly a
larger one, that does not move. What a run leaves is the moving average of the student.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jepa.checkpoints.native import load_encoder
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.training.pretraining import Pretraining


class Distillation(Pretraining):
    """Trains a video encoder against a frozen teacher.

    Args:
        encoder: the student.
        predictor: with the teacher's dim as its `output_dim`.
        teacher: folder of the teacher's encoder, or of the run that made it. It is no part of the
            checkpoints: a resumed run reads it again.
        options: see `Pretraining`; `ema_momentum` is that of the student's average.

    Raises:
        ValueError: if the predictor puts out another width than the teacher's, or the teacher cuts
            a clip into other tokens than the student.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        predictor: MaskedLatentPredictor,
        *,
        teacher: str,
        **options: Any,  # noqa: ANN401 - those of Pretraining, which refuses all others
    ) -> None:
        super().__init__(encoder, predictor, **options)
        frozen = load_encoder(teacher).requires_grad_(False).eval()
        _refuse_misfit(encoder, predictor, frozen)
        self._teacher = [frozen]  # a list hides it from the checkpoints

    @property
    def teacher(self) -> VideoEncoder:
        """The frozen encoder."""
        return self._teacher[0]

    def watched_tokens(self, video: Tensor, target: Tensor) -> Tensor:
        """The student's: the teacher's do not change."""
        return self.target_encoder(video)

    def target_network(self) -> tuple[VideoEncoder, bool]:
        """The teacher, without gradient."""
        return self.teacher, False

    @torch.no_grad()
    def target(self, video: Tensor) -> Tensor:
        """Returns the teacher's tokens of all places: (batch, tokens, teacher's dim)."""
        return self.teacher.to(video.device)(video)  # hidden, it does not move with the student


def _refuse_misfit(
    student: VideoEncoder, predictor: MaskedLatentPredictor, teacher: VideoEncoder
) -> None:
    if predictor.output_dim != teacher.dim:
        raise ValueError(
            f"the predictor puts out {predictor.output_dim} channels, the teacher has "
            f"{teacher.dim}: set predictor.output_dim={teacher.dim}"
        )
    if student.tubelet != teacher.tubelet:
        raise ValueError(
            f"the student's tubelet {student.tubelet} (frames, height, width) is not the teacher's "
            f"{teacher.tubelet}: give the student the teacher's tubelet_size and patch_size"
        )
