"""What is hidden and what is shown: masks are part of the question that the objective asks.

Masks are drawn on the model's device from a generator that the training step passes in, so a
resumed run hides the same tokens as an uninterrupted one. How many tokens are shown and asked for
follows from the sampler's arguments and the grid alone, wherever a sampler does not say otherwise:
no number is read back from the device.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Mask(NamedTuple):
    """Token ids, flat over (time, height, width), ascending; the two never overlap.

    Attributes:
        context_ids: (batch, context), shown to the encoder.
        target_ids: (batch, targets), asked of the predictor.
    """

    context_ids: Tensor
    target_ids: Tensor


class MaskSampler(ABC):
    """Draws one mask per clip; all clips of a batch have as many context tokens, and targets."""

    @abstractmethod
    def sample(self, batch: int, grid: tuple[int, int, int], *, generator: Generator) -> Mask:
        """Draws masks.

        Args:
            batch: number of clips, at least 1.
            grid: (time, height, width) of a clip in tokens.
            generator: its device is where the ids are made.

        Returns:
            Mask with ids on the generator's device.

        Raises:
            ValueError: if the batch is empty, or the grid too small to show something and hide
                something.
        """


def mask_generator(seed: int, step: int, rank: int, *, device: torch.device) -> Generator:
    """Returns the generator of one training step on one rank: a pure function of its arguments.

    Args:
        seed: of the run, any integer.
        step: any integer.
        rank: any integer.
        device: where the generator draws.
    """
    return Generator(device=device).manual_seed(step_seed(seed, step, rank))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of what is drawn in one training step on one rank, in [0, 2^63).

    The three are hashed, because a generator on the CPU looks at the low 32 bits of its seed only:
    there, a sum of their multiples would give each rank what another rank had, some steps later.
    Two hashes share these bits by chance once in 4e9 pairs.
    """
    digest = hashlib.blake2b(f"{seed}, {step}, {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**63


def refuse_wrong_size(batch: int, grid: tuple[int, int, int]) -> None:
    """Checks the arguments of `MaskSampler.sample`.

    Raises:
        ValueError: if there is no clip, or no token in a clip.
    """
    if batch < 1:
        raise ValueError(f"masks need a batch of at least 1 clip, got {batch}")
    if min(grid) < 1:
        raise ValueError(f"grid must be (time, height, width), each at least 1, got {tuple(grid)}")


def refuse_wrong_fraction(name: str, fraction: float) -> None:
    """Raises ValueError if a share is not inside (0, 1)."""
    if not 0 < fraction < 1:
        raise ValueError(f"{name} must be in (0, 1), got {fraction}")


def refuse_wrong_range(name: str, values: tuple[float, float]) -> None:
    """Raises ValueError if a range is not 0 < low <= high."""
    if not 0 < values[0] <= values[1]:
        raise ValueError(f"{name} must be 0 < low <= high, got {values}")


def count_of(fraction: float, num_places: int) -> int:
    """Returns the number of places nearest to a share of them, at least 1 and not all.

    Args:
        fraction: in (0, 1).
        num_places: at least 2.
    """
    return min(max(round(fraction * num_places), 1), num_places - 1)


def ids_where(is_member: Tensor, count: int) -> Tensor:
    """Returns the first `count` ids of each row, ascending, without waiting for the device.

    Args:
        is_member: (batch, tokens) bool; every row has at least `count` members.
        count: ids to return of each row.

    Returns:
        (batch, count) int64.
    """
    batch, tokens = is_member.shape
    ids = torch.arange(tokens, device=is_member.device).expand(batch, -1)
    column = is_member.cumsum(1)
    column *= is_member & (column <= count)  # column 0 takes what is not asked for
    table = ids.new_empty(batch, count + 1)
    return table.scatter_(1, column, ids)[:, 1:].contiguous()


def is_lowest(values: Tensor, count: int) -> Tensor:
    """Returns where the `count` lowest values of each row are: (batch, tokens) bool.

    Args:
        values: (batch, tokens).
        count: True values of each row, also where values are equal.
    """
    lowest = values.topk(count, dim=1, largest=False, sorted=False).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, lowest, True)


def draw_places(
    batch: int, num_places: int, fraction: float, *, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draws places one by one, for each clip on its own: every place is either shown or hidden.

    Args:
        batch: number of clips.
        num_places: places of a clip, at least 2.
        fraction: share of the places that is hidden, in (0, 1); see `count_of`.
        generator: its device is where the ids are made.

    Returns:
        Ids of what is shown (batch, num_places - hidden) and of what is hidden (batch, hidden),
        ascending.
    """
    num_hidden = count_of(fraction, num_places)
    numbers = torch.rand((batch, num_places), generator=generator, device=generator.device)
    is_hidden = is_lowest(numbers, num_hidden)
    return ids_where(~is_hidden, num_places - num_hidden), ids_where(is_hidden, num_hidden)


def through_time(places: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Repeats ascending places (batch, places) of a frame at every time: ascending flat ids."""
    time, height, width = grid
    frames = torch.arange(time, device=places.device) * (height * width)
    return (frames.view(1, -1, 1) + places.unsqueeze(1)).flatten(1)
