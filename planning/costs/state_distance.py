"""How far from a goal state an imagined rollout is."""

from __future__ import annotations

from dataclasses import dataclass

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
        distance: of states as one token.
        reduction: over the steps of a rollout, see `GoalDistance`.

    Raises:
        ValueError: if the goal has another shape or is not finite, or of another reduction.
    """

    goal: Tensor
    columns: tuple[int, ...] | None = None
    units: StateUnits | None = None
    distance: Distance = L1()  # noqa: RUF009 - frozen
    reduction: Reduction = "last"

    def __post_init__(self) -> None:
        refuse_other_reductions(self.reduction)
        expected = "(columns,)" if self.columns is None else f"({len(self.columns)},)"
        if self.goal.ndim != 1 or (self.columns and len(self.goal) != len(self.columns)):
            raise ValueError(f"the goal state must be {expected}, got {tuple(self.goal.shape)}")
        if not self.goal.isfinite().all():
            raise ValueError(f"the goal state must be finite, got {self.goal.tolist()}")

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
        return self.distance(states.unsqueeze(-2), self.goal.to(states).unsqueeze(0))
