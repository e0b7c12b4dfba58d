"""Where a planner searches: sequences of steps with bounds, and how they become actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planning.action_sampling import ActionDistribution, shift
from planning.action_space import ActionSpec


@dataclass(frozen=True)
class SearchSpace:
    """Bounded sequences, in the units of the actions.

    Attributes:
        action_spec: what an action means, and its bounds.
        low: (steps, dim), least value of each step.
        high: (steps, dim), greatest value.
    """

    action_spec: ActionSpec
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, action_spec: ActionSpec, horizon: int, *, like: Tensor) -> SearchSpace:
        """Returns the space of `horizon` actions, with the type and device of `like`."""
        low, high = (bound.expand(horizon, -1) for bound in action_spec.bounds(like))
        return cls(action_spec, low, high)

    @property
    def middle(self) -> Tensor:
        """(steps, dim), halfway between the bounds."""
        return (self.low + self.high) / 2

    @property
    def half_range(self) -> Tensor:
        """(steps, dim), from the middle to a bound."""
        return (self.high - self.low) / 2

    def clip(self, sequences: Tensor) -> Tensor:
        """Returns the nearest sequences (..., steps, dim) inside the bounds."""
        return torch.minimum(torch.maximum(sequences, self.low), self.high)

    def decode(self, sequences: Tensor) -> Tensor:
        """Returns the actions (..., horizon, action_dim) that sequences (..., steps, dim) mean."""
        return sequences

    def encode(self, actions: Tensor) -> Tensor:
        """Returns the sequence (steps, dim) that means actions (horizon, action_dim), or nearly."""
        return actions


@dataclass(frozen=True)
class WarmStart:
    """What is left of the plan before.

    Attributes:
        sequence: (steps, dim); its end repeats the last planned step.
        num_planned: steps that the plan before covers; those after it were never planned.
    """

    sequence: Tensor
    num_planned: int

    @classmethod
    def after(cls, actions: Tensor, executed_steps: int, *, space: SearchSpace) -> WarmStart:
        """Returns what is left of actions (horizon, action_dim) after some were executed.

        Raises:
            ValueError: if the plan before has another shape, or fewer steps than were executed.
        """
        sequence = space.encode(actions.to(space.low))
        if sequence.shape != space.low.shape:
            raise ValueError(
                f"the previous plan has actions {tuple(actions.shape)}, this planner's are "
                f"{tuple(space.low.shape)}; plan without it"
            )
        nothing = ActionDistribution(sequence, torch.zeros_like(sequence))
        left = shift(nothing, executed_steps, tail_std=nothing.std[-1])
        return cls(left.mean, len(sequence) - executed_steps)


def first_distribution(
    space: SearchSpace, warm: WarmStart | None, *, std: float, warm_std: float
) -> ActionDistribution:
    """Returns where a search begins: in the middle of the space, or at what is left of a plan.

    Args:
        space: where to search.
        warm: what is left of the plan before.
        std: standard deviation in half-ranges, of steps that were never planned.
        warm_std: likewise, of steps that were.
    """
    if warm is None:
        return ActionDistribution(space.middle, space.half_range * std)
    stds = torch.full_like(space.low[:, :1], std)
    stds[: warm.num_planned] = warm_std
    return ActionDistribution(warm.sequence, space.half_range * stds)
