"""The target encoder: an exponential moving average of the online one, and its only owner."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class TargetEncoder(nn.Module):
    """A slow copy of an encoder that never receives a gradient.

    Args:
        encoder: the online encoder; copied, in float32.
        momentum: (first, last) value of the share that is kept at every update, moved along a
            straight line over the run, as in I-JEPA and V-JEPA; their code ends a run four fifths
            along it: (.998, 1.) there is (.998, .9996) here. Equal values keep it constant, as in
            V-JEPA 2 (.99925).
    """

    def __init__(self, encoder: nn.Module, *, momentum: tuple[float, float]) -> None:
        super().__init__()
        if not 0 <= momentum[0] <= momentum[1] <= 1:
            raise ValueError(f"EMA momentum must be 0 <= first <= last <= 1, got {momentum}")
        self.momentum = momentum
        self.encoder = copy.deepcopy(encoder).float().requires_grad_(False)

    @torch.no_grad()
    def forward(self, video: Tensor) -> Tensor:
        """Encodes all tokens of a video: (batch, tokens, dim)."""
        return self.encoder(video)

    @torch.no_grad()
    def levels(self, video: Tensor) -> Tensor:
        """Encodes all tokens of a video, all levels side by side: (batch, tokens, levels * dim)."""
        return self.encoder.levels(video)  # pyright: ignore[reportCallIssue]

    def momentum_at(self, progress: float) -> float:
        """Returns the momentum at a share of the run in [0, 1]."""
        first, last = self.momentum
        progress = min(max(progress, 0.0), 1.0)
        return first + (last - first) * progress

    @torch.no_grad()
    def update(self, encoder: nn.Module, *, progress: float) -> None:
        """Moves every parameter a small step towards the online encoder's.

        Args:
            encoder: the online encoder.
            progress: share of the run that is done, in [0, 1].
        """
        weight = 1 - self.momentum_at(progress)
        target: list[Tensor] = list(self.encoder.parameters())
        online = [parameter.float() for parameter in encoder.parameters()]
        torch._foreach_lerp_(target, online, weight)  # pyright: ignore[reportPrivateImportUsage]
