"""How far from a goal state an imagined rollout is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planning.costs.distances import L1, Distance
from planning.costs.imagined_states import StateUnits, imagined_states
from planning.costs.reductions import Reduction, over_steps, refuse_other_reductions
from planning.types import Latent


@dataclass(frozen=True)
class StateDistance:
    """Distance of imagined states to a goal state; with a weight of 0.1 beside latents in JEPA-WMs.

    Args:
        goal: (columns,), as many values as columns are looked at; normalised, or raw with `units`.
        columns: which columns of the state; None: all.
        units: compares in raw units; None compares normalised states, in which columns of
            different units weigh alike.
        periods: (columns,), after how much a value is the same again, in the unit of the goal, so
            that the shorter way round counts: 2 pi for an angle in raw radians, 2 pi / std for a
            normalised one, infinity for what never comes round. None: nothing does.
        distance: of states as one token.
        reduction: over the steps of a rollout, see `GoalDistance`.

    Raises:
        ValueError: if the goal has another shape or is not finite, if a period is not positive, or
            of another reduction.
    """

    goal: Tensor
    columns: tuple[int, ...] | None = None
    units: StateUnits | None = None
    distance: Distance = L1()  # noqa: RUF009 - frozen
    reduction: Reduction = "last"
    periods: Tensor | None = None

    def __post_init__(self) -> None:
        refuse_other_reductions(self.reduction)
        expected = "(columns,)" if self.columns is None else f"({len(self.columns)},)"
        if self.goal.ndim != 1 or (self.columns and len(self.goal) != len(self.columns)):
            raise ValueError(f"the goal state must be {expected}, got {tuple(self.goal.shape)}")
        if not self.goal.isfinite().all():
            raise ValueError(f"the goal state must be finite, got {self.goal.tolist()}")
        periods = self.periods
        if periods is not None and (periods.shape != self.goal.shape or not (periods > 0).all()):
            raise ValueError(
                f"periods must be ({len(self.goal)},), positive (infinity for no period), got "
                f"{periods.tolist()}"
            )

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,)."""
        return over_steps(self.per_step(imagined), self.reduction)

    def per_step(self, imagined: Latent) -> Tensor:
        """Distance after every action: (samples, horizon).

        Raises:
            ValueError: if the imagined states are no match for the goal.
        """
        states = imagined_states(
            imagined, columns=self.columns, units=self.units, asked_by="StateDistance"
        )
        if states.shape[-1] != len(self.goal):
            raise ValueError(
                f"the goal state has {len(self.goal)} columns, the imagined states have "
                f"{states.shape[-1]}; choose some by `columns`"
            )
        goal = self.goal.to(states)
        if self.periods is not None:
            states = goal + _the_shorter_way(states - goal, self.periods.to(states))
        return self.distance(states.unsqueeze(-2), goal.unsqueeze(0))


def _the_shorter_way(differences: Tensor, periods: Tensor) -> Tensor:
    """Returns differences (..., columns) less as many whole periods as make them smallest."""
    rounds = (differences / periods).detach().round()
    return differences - torch.where(rounds == 0, 0.0, rounds * periods)  # not 0 x infinity
