"""What a world model asks of its encoder: `VideoEncoder`, `TimmEncoder`, or one of yours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class FrameEncoder(Protocol):
    """An `nn.Module` that encodes every frame on its own, into a grid of tokens."""

    @property
    def dim(self) -> int:
        """Width of a token."""
        ...

    @property
    def grid(self) -> tuple[int, int, int]:
        """(time, height, width) in tokens of what the encoder is made for; a frame is one slice."""
        ...

    @property
    def tubelet(self) -> tuple[int, int, int]:
        """(frames, height, width) in pixels of a token: times the grid, what it is made for."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Settings, as JSON can hold them, that make the same architecture again."""
        ...

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encodes frames.

        Args:
            frames: (batch, 3, time, height, width): pixels as uint8 in [0, 255], or as floats that
                are normalised already.

        Returns:
            (batch, time, tokens of one frame, dim), tokens row by row.
        """
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As `nn.Module.requires_grad_`."""
        ...

    def eval(self) -> Self:
        """As `nn.Module.eval`."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """As `nn.Module.to`."""
        ...
