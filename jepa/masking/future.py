"""The first frames are shown, later ones asked for."""

from __future__ import annotations

import torch
from torch import Generator

from jepa.masking.base import Mask, MaskSampler, refuse_wrong_fraction, refuse_wrong_size


class Future(MaskSampler):
    """Shows the first frames and asks for later ones: what comes next?

    All clips of a batch are shown equally much. Where the end of what is shown is drawn, one number
    is read back from the generator's device, since it says how large the result is.

    Args:
        context_fraction: share of the clip's time that is shown, in (0, 1): a number, or the
            (low, high) range in which the last time shown is drawn for each batch, uniformly.
        gap_tokens: times (in tokens) after the shown ones that are neither shown nor asked for.
        horizon_tokens: times (in tokens) that are asked for, fewer where the clip ends before.
            None: all to the end.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        *,
        context_fraction: float | tuple[float, float] = 0.5,
        gap_tokens: int = 0,
        horizon_tokens: int | None = None,
    ) -> None:
        is_range = isinstance(context_fraction, (tuple, list))
        low, high = context_fraction if is_range else (context_fraction, context_fraction)
        refuse_wrong_fraction("context_fraction", low)
        refuse_wrong_fraction("context_fraction", high)
        if low > high:
            raise ValueError(f"context_fraction must be low <= high, got {context_fraction}")
        if gap_tokens < 0:
            raise ValueError(f"gap_tokens must be at least 0, got {gap_tokens}")
        if horizon_tokens is not None and horizon_tokens < 1:
            raise ValueError(f"horizon_tokens must be at least 1, or null, got {horizon_tokens}")
        self.context_fraction = (low, high)
        self.gap_tokens = gap_tokens
        self.horizon_tokens = horizon_tokens

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`; the same for all clips of a batch."""
        refuse_wrong_size(batch, grid)
        time, height, width = grid
        if time < 2 + self.gap_tokens:
            wanted = f"{2 + self.gap_tokens} tokens in time"
            wanted += f" with gap_tokens={self.gap_tokens}" if self.gap_tokens else ""
            raise ValueError(f"Future masks need at least {wanted}, got {time}")
        shown = self._shown_times(time, generator)
        first = shown + self.gap_tokens
        last = time if self.horizon_tokens is None else min(first + self.horizon_tokens, time)
        places = height * width
        ids = torch.arange(time * places, device=generator.device).expand(batch, -1)
        return Mask(
            context_ids=ids[:, : shown * places],
            target_ids=ids[:, first * places : last * places],
        )

    def _shown_times(self, time: int, generator: Generator) -> int:
        """How many times are shown: at least one, and so few that one is left to ask for."""
        most = time - 1 - self.gap_tokens
        low, high = (min(max(round(share * time), 1), most) for share in self.context_fraction)
        if low == high:
            return low
        drawn = torch.randint(low, high + 1, (1,), generator=generator, device=generator.device)
        return int(drawn)
