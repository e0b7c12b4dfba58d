"""Where a planner searches: sequences of choices with bounds, and how they become actions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from planning.actions.parameterization import PER_STEP, Parameterization, PerStep
from planning.actions.sampling import ActionDistribution, shift
from planning.actions.space import ActionSpec
from planning.safety.safe_stop import RefusedAction


@dataclass(frozen=True)
class SearchSpace:
    """Bounded sequences of choices, and the actions that they mean.

    Choices follow each other in the time of the environment: an action of the model that is several
    of the environment's side by side is searched as several steps, so that noise, splines and
    a shifted plan know which is next to which.

    Attributes:
        action_spec: what an action means, and its limits.
        low: (steps, dim), least value of each choice, in the units of the actions.
        high: (steps, dim), greatest value.
        parameterization: what is chosen of a sequence.
        weights: (steps of the environment, steps), by which choices become actions; None where each
            action is chosen by itself.
        previous_action: the environment's action that was executed last, which the first actions
            are near where the spec limits changes; None at the beginning of an episode.
    """

    action_spec: ActionSpec
    low: Tensor
    high: Tensor
    parameterization: Parameterization = PER_STEP
    weights: Tensor | None = None
    previous_action: Tensor | None = None

    @classmethod
    def of(
        cls,
        action_spec: ActionSpec,
        horizon: int,
        *,
        like: Tensor,
        parameterization: Parameterization = PER_STEP,
        previous_action: Tensor | None = None,
    ) -> SearchSpace:
        """Returns the space of `horizon` actions, with the type and device of `like`.

        Args:
            action_spec: what an action means, and its limits.
            horizon: actions of the model in a sequence.
            like: any tensor.
            parameterization: what is chosen, over the steps of the environment.
            previous_action: see the attribute.

        Raises:
            ValueError: if the horizon is too short for the parameterization, or `previous_action`
                is no finite action of the environment.
        """
        if previous_action is not None:
            previous_action = action_spec.checked_previous_action(previous_action).to(like)
        limits = action_spec.step_limits(horizon, like=like)
        low, high = (action_spec.in_steps(bound) for bound in limits)
        if isinstance(parameterization, PerStep):
            return cls(action_spec, low, high, parameterization, None, previous_action)
        weights = parameterization.weights(len(low)).to(like)
        first = [*parameterization.first_steps(len(low)), len(low)]
        parts = [slice(begin, end) for begin, end in pairwise(first)]
        low = torch.stack([low[part].amin(0) for part in parts])
        high = torch.stack([high[part].amax(0) for part in parts])
        return cls(action_spec, low, high, parameterization, weights, previous_action)

    @property
    def num_steps(self) -> int:
        """Steps of the environment in a sequence."""
        return len(self.low if self.weights is None else self.weights)

    @property
    def horizon(self) -> int:
        """Actions of the model in a sequence."""
        return self.num_steps // self.action_spec.num_steps

    @property
    def middle(self) -> Tensor:
        """(steps, dim), halfway between the bounds."""
        return (self.low + self.high) / 2

    @property
    def half_range(self) -> Tensor:
        """(steps, dim), from the middle to a bound; 0 where a step leaves nothing to choose."""
        return (self.high - self.low) / 2

    def clip(self, sequences: Tensor) -> Tensor:
        """Returns the nearest sequences (..., steps, dim) inside the bounds."""
        return sequences.clamp(self.low, self.high)  # passes gradients on at the bounds too

    def decode(self, sequences: Tensor) -> Tensor:
        """Returns the actions (..., horizon, action_dim) that sequences (..., steps, dim) mean.

        They keep all limits of the spec, whatever the sequences: this is what the world imagines
        and what is executed. See `ActionSpec.limit`.
        """
        actions = self.clip(sequences)
        if self.weights is not None:
            actions = self.weights @ actions
        return self.action_spec.limit(self.action_spec.side_by_side(actions), self.previous_action)

    def encode(self, actions: Tensor) -> Tensor:
        """Returns the sequence (..., steps, dim) that means actions (..., horizon, action_dim).

        Where there is none, the one whose actions are nearest (least squares). Of actions that no
        limit changes it is the inverse of `decode`.
        """
        actions = self.action_spec.in_steps(actions)
        if self.weights is None:
            return actions
        return torch.linalg.pinv(self.weights.double()).to(actions) @ actions

    def spread(self, std: Tensor) -> Tensor:
        """Returns the standard deviation (horizon, action_dim) of the actions.

        Args:
            std: (steps, dim), of choices that are independent; limits are not looked at.
        """
        if self.weights is not None:
            std = (self.weights.square() @ std.square()).sqrt()
        return self.action_spec.side_by_side(std)


@dataclass(frozen=True)
class WarmStart:
    """What is left of the plan before.

    Attributes:
        sequence: (steps, dim), choices; at the end they repeat the last planned action.
        num_planned: choices that begin in what the plan before covers; those after it were never
            planned.
        elites: (elites, steps, dim), what is left of the plan's other good sequences, in case the
            planner uses them.
    """

    sequence: Tensor
    num_planned: int
    elites: Tensor | None = None

    @classmethod
    def after(
        cls,
        actions: Tensor,
        executed_steps: int,
        *,
        space: SearchSpace,
        elites: Tensor | None = None,
    ) -> WarmStart:
        """Returns what is left of a plan after some of its actions were executed.

        The plan is shifted by steps, and only then told in choices.

        Args:
            actions: (horizon, action_dim), of the plan.
            executed_steps: how many of them were executed.
            space: where to search now.
            elites: (elites, horizon, action_dim), the plan's other good sequences.

        Raises:
            ValueError: if the plan before has another shape or actions that are not finite, or
                fewer steps than were executed.
        """
        sequence = _what_is_left(actions, executed_steps, space)
        first_steps = space.parameterization.first_steps(space.num_steps)
        left = space.num_steps - executed_steps * space.action_spec.num_steps
        num_planned = sum(step < left for step in first_steps)
        if elites is not None:
            elites = _what_is_left(elites, executed_steps, space)
        return cls(sequence, num_planned, elites)


def _what_is_left(actions: Tensor, executed_steps: int, space: SearchSpace) -> Tensor:
    """Returns sequences (..., steps, dim) of actions (..., horizon, action_dim), shifted."""
    expected = (space.horizon, space.action_spec.dim)
    if actions.shape[-2:] != expected:
        raise ValueError(
            f"the previous plan has actions {tuple(actions.shape[-2:])}, this planner's are "
            f"{expected}; plan without it"
        )
    if not actions.isfinite().all():
        raise RefusedAction(
            "the previous plan has an action that is NaN or infinite; plan without it"
        )
    spec = space.action_spec
    steps = spec.in_steps(actions.to(space.low))
    rows = steps.movedim(-2, 0).flatten(1)  # (steps, all that are shifted alike)
    nothing = ActionDistribution(rows, torch.zeros_like(rows))
    rows = shift(nothing, executed_steps * spec.num_steps, tail_std=nothing.std[-1]).mean
    left = rows.unflatten(1, (*steps.shape[:-2], -1)).movedim(0, -2)
    return space.encode(spec.side_by_side(left))


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
