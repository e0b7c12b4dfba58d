"""Places drawn one by one, hidden through all of time."""

from __future__ import annotations

from torch import Generator

from jepa.masking.base import (
    Mask,
    MaskSampler,
    draw_places,
    refuse_wrong_fraction,
    refuse_wrong_size,
    through_time,
)


class Tube(MaskSampler):
    """Hides random places through all of time (VideoMAE, arXiv:2203.12602, Sec. 3.3).

    What stands still cannot be copied from another time. Places are drawn one by one, each clip's
    on its own; every token is either context or target.

    Args:
        target_fraction: share of the places that is hidden, in (0, 1).

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(self, *, target_fraction: float = 0.9) -> None:
        refuse_wrong_fraction("target_fraction", target_fraction)
        self.target_fraction = target_fraction

    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """See `MaskSampler.sample`."""
        refuse_wrong_size(batch, grid)
        num_places = grid[1] * grid[2]
        if num_places < 2:
            raise ValueError(f"Tube masks need at least 2 places a frame, got grid {grid}")
        shown, hidden = draw_places(batch, num_places, self.target_fraction, generator=generator)
        return Mask(context_ids=through_time(shown, grid), target_ids=through_time(hidden, grid))
