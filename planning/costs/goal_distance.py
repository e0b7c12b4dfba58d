"""How far from the goal image an imagined rollout is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from planning.costs.distances import Distance
from planning.costs.reductions import Reduction, over_steps, refuse_other_reductions
from planning.types import Latent


@dataclass(frozen=True)
class GoalDistance:
    """Distance of imagined latents to the goal's latent.

    Args:
        goal: the encoded goal image, tokens (tokens, dim).
        distance: maps latents (..., tokens, dim) and the goal to (...) distances: the world
            model's own, or one of `planning.costs.distances`.
        reduction: "mean" over the steps of the rollout rewards getting there early and staying,
            which matters for navigation; "last" looks at the end only; `Discounted` lets early
            steps count more, which are imagined better.

    Raises:
        ValueError: if the reduction is another one, or the goal is no single latent.
    """

    goal: Latent
    distance: Distance
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        refuse_other_reductions(self.reduction)
        if self.goal.tokens.ndim != 2:
            raise ValueError(
                f"the goal must be one latent (tokens, dim), got {tuple(self.goal.tokens.shape)}"
            )

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts (samples, horizon, tokens, dim): (samples,)."""
        return over_steps(self.per_step(imagined), self.reduction)

    def per_step(self, imagined: Latent) -> Tensor:
        """Distance after every action: (samples, horizon).

        Raises:
            ValueError: if the goal is a latent of another world.
        """
        goal = self.goal.tokens
        if imagined.tokens.shape[-2:] != goal.shape:
            raise ValueError(
                f"the goal has {_size(goal)}, the imagined latents have "
                f"{_size(imagined.tokens)}; encode the goal with the same world model"
            )
        return self.distance(imagined.tokens, goal)


def _size(tokens: Tensor) -> str:
    return f"{tokens.shape[-2]} tokens of {tokens.shape[-1]}"
