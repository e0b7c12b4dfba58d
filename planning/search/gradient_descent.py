"""Adam on many action sequences at once, each with a memory and a step size of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from planning.search.rounds import Scores
from planning.search.space import SearchSpace

STILL = 1e-4  # a step of fewer half-ranges leads nowhere


class Moments(NamedTuple):
    """What Adam remembers.

    Attributes:
        first: (starts, steps, dim), running mean of the gradients.
        second: (starts, steps, dim), running mean of their squares.
        count: (starts,), steps taken.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    @classmethod
    def none(cls, like: Tensor) -> Moments:
        """Returns the moments before the first step of sequences (starts, steps, dim)."""
        zeros = torch.zeros_like(like)
        return cls(zeros, zeros, like.new_zeros(len(like)))

    def reset(self, where: Tensor) -> Moments:
        """Forgets the starts where a mask (starts,) is True."""
        chosen = where[:, None, None]
        return Moments(
            self.first.masked_fill(chosen, 0.0),
            self.second.masked_fill(chosen, 0.0),
            self.count.masked_fill(where, 0.0),
        )


def adam_direction(
    moments: Moments, gradients: Tensor, *, betas: tuple[float, float], eps: float = 1e-8
) -> tuple[Tensor, Moments]:
    """Returns Adam's direction, about 1 in size, and what it remembers then.

    The update of Kingma & Ba (arXiv:1412.6980), Alg. 1, and of `torch.optim.Adam`; the sequences
    move by minus the step size times the direction. Each start counts its own steps.

    Args:
        moments: before.
        gradients: (starts, steps, dim).
        betas: how much of the running means is kept.
        eps: added to the root of the second moment.
    """
    first = torch.lerp(gradients, moments.first, betas[0])
    second = torch.lerp(gradients.square(), moments.second, betas[1])
    count = moments.count + 1
    number = count[:, None, None]
    mean, square = first / (1 - betas[0] ** number), second / (1 - betas[1] ** number)
    return mean / (square.sqrt() + eps), Moments(first, second, count)


@dataclass
class Descent:
    """Several starts that go downhill, and the best that each has seen.

    A step is projected to the space. A start that steps to where costs are infinite returns to its
    best and halves its step; one that cannot move (no slope, or a corner of the space) is drawn
    anew. The best is kept in both cases.

    Args:
        space: where to search.
        step_size: of a first step, in half-ranges.
        betas: of Adam.
        sequences: (starts, steps, dim), where the starts are now.
        best: (starts, steps, dim), the best that each has seen.
        best_costs: (starts,), of these; infinite where none has had a finite cost.
    """

    space: SearchSpace
    step_size: float
    betas: tuple[float, float]
    sequences: Tensor
    best: Tensor
    best_costs: Tensor
    moments: Moments
    shares: Tensor  # (starts,), of the step size: halved after each step that was ruled out

    @classmethod
    def at(
        cls,
        space: SearchSpace,
        sequences: Tensor,
        *,
        step_size: float,
        betas: tuple[float, float],
        costs: Tensor | None = None,
    ) -> Descent:
        """Begins at sequences (starts, steps, dim), whose costs (starts,) may be known."""
        ones = sequences.new_ones(len(sequences))
        known = ones * torch.inf if costs is None else costs.to(ones)
        moments = Moments.none(sequences)
        return cls(space, step_size, betas, sequences, sequences, known, moments, ones)

    @property
    def best_sequence(self) -> Tensor:
        """(steps, dim), the best of all; the first start before any cost is known."""
        return self.best[self.best_costs.argmin()]

    def advance(self, scores: Scores, *, scale: float, generator: Generator) -> None:
        """Takes one step of each start.

        Args:
            scores: of the sequences, with gradients.
            scale: of the step size now, for example to let it decay.
            generator: draws starts that are stuck.
        """
        assert scores.gradients is not None
        self._keep(scores.costs.to(self.best_costs))
        half_range = self.space.half_range
        is_lost = scores.costs.isinf()
        # With respect to half-ranges, where they may overflow.
        gradients = (scores.gradients * half_range).nan_to_num(0.0, 0.0, 0.0)
        direction, moments = adam_direction(self.moments, gradients, betas=self.betas)
        size = (self.step_size * scale * self.shares)[:, None, None]
        moved = self.space.clip(self.sequences - size * half_range * direction)
        moves = (moved - self.sequences).abs() / half_range.clamp(min=1e-12)
        largest = moves.flatten(1).amax(1)
        self._go_on(moved, moments, is_lost, largest < STILL * scale, generator)

    def offer(self, sequences: Tensor, costs: Tensor) -> None:
        """Moves the starts to better sequences (samples, steps, dim), where there are some.

        Starts and sequences are ranked together by their best costs (samples,); the worst starts
        give way.
        """
        count, costs = len(self.sequences), costs.to(self.best_costs)
        ranked = torch.cat((self.best_costs, costs)).topk(count, largest=False).indices
        new = ranked[ranked >= count] - count
        is_out = torch.ones(count, dtype=torch.bool, device=costs.device)
        is_out[ranked[ranked < count]] = False
        self.sequences, self.best, self.best_costs, self.shares = (
            part.clone() for part in (self.sequences, self.best, self.best_costs, self.shares)
        )
        self.sequences[is_out] = self.best[is_out] = sequences[new]
        self.best_costs[is_out], self.shares[is_out] = costs[new], 1.0
        self.moments = self.moments.reset(is_out)

    def _keep(self, costs: Tensor) -> None:
        is_better = costs < self.best_costs
        self.best = torch.where(is_better[:, None, None], self.sequences, self.best)
        self.best_costs = torch.where(is_better, costs, self.best_costs)

    def _go_on(
        self,
        moved: Tensor,
        moments: Moments,
        is_lost: Tensor,
        is_still: Tensor,
        generator: Generator,
    ) -> None:
        """Chooses for each start: the step, back to its best, or somewhere else."""
        can_return = is_lost & self.best_costs.isfinite()
        is_stuck = (is_lost & ~can_return) | (is_still & ~is_lost)
        moved = torch.where(can_return[:, None, None], self.best, moved)
        fresh = self._drawn(generator)  # always drawn, so that randomness does not hang on costs
        self.sequences = torch.where(is_stuck[:, None, None], fresh, moved)
        self.moments = moments.reset(is_lost | is_stuck)
        shares = torch.where(can_return, self.shares / 2, self.shares)
        self.shares = torch.where(is_stuck, torch.ones_like(shares), shares)

    def _drawn(self, generator: Generator) -> Tensor:
        """Returns as many sequences, uniform between the bounds."""
        noise = torch.rand(self.sequences.shape, generator=generator, device=generator.device)
        low, high = self.space.low, self.space.high
        return self.space.clip(low + (high - low) * noise.to(low))


def cosine_scale(progress: float, last: float) -> float:
    """Returns a factor that falls from 1 at progress 0 to `last` at 1, like a cosine."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress))
