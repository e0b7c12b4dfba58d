"""Several goal images, one after the other (V-JEPA 2, arXiv:2506.09985, Sec. 4.2).

What was reached is a function of what was seen: the policy keeps a `SubGoalProgress`, asks for the
next one after every frame, and plans with `SubGoals.cost`. A cost holds no state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from planning.costs.distances import Distance
from planning.costs.goal_distance import GoalDistance
from planning.costs.reductions import Reduction
from planning.types import Latent


class SubGoalProgress(NamedTuple):
    """How far an episode has come.

    Attributes:
        index: of the goal that is to be reached now.
        num_steps: actions executed since it became that.
    """

    index: int = 0
    num_steps: int = 0


@dataclass(frozen=True)
class SubGoals:
    """Goals in order, and when one gives way to the next; the last one never does.

    Args:
        goals: encoded images, each tokens (tokens, dim); at least one.
        distance: of latents, see `GoalDistance`.
        reached_within: a goal counts as reached when what is seen is at most so far from it. None:
            only steps count.
        max_steps: actions after which each goal but the last gives way, reached or not. None: only
            the distance counts.
        reduction: over the steps of a rollout, see `GoalDistance`.

    Raises:
        ValueError: if there is no goal, no rule, or a rule that does not fit the goals.
    """

    goals: tuple[Latent, ...]
    distance: Distance
    reached_within: float | None = None
    max_steps: tuple[int, ...] | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        if not self.goals:
            raise ValueError("there must be at least one goal")
        shapes = {tuple(goal.tokens.shape) for goal in self.goals}
        if len(shapes) > 1:
            raise ValueError(f"all goals must have one shape, got {sorted(shapes)}")
        if len(self.goals) > 1 and self.reached_within is None and self.max_steps is None:
            raise ValueError("say when a goal gives way to the next: reached_within or max_steps")
        if self.reached_within is not None and not self.reached_within >= 0:
            raise ValueError(f"reached_within must be at least 0, got {self.reached_within}")
        self._refuse_other_steps()
        self.cost(SubGoalProgress())  # refuses what no goal distance can be made of

    def cost(self, progress: SubGoalProgress) -> GoalDistance:
        """Returns the distance to the goal of the moment."""
        return GoalDistance(self.goals[progress.index], self.distance, self.reduction)

    def after(
        self, progress: SubGoalProgress, observed: Latent, *, num_steps: int = 1
    ) -> SubGoalProgress:
        """Returns the progress after a frame was seen.

        One frame may show that several goals have been reached; but time lets one goal give way
        at a time.

        Args:
            progress: before it.
            observed: the encoded frame, tokens (tokens, dim).
            num_steps: actions executed since the frame before; 0 for the first of an episode.
        """
        index, steps = progress.index, progress.num_steps + num_steps
        last = len(self.goals) - 1
        if index < last and self.max_steps is not None and steps >= self.max_steps[index]:
            index, steps = index + 1, 0
        while index < last and self._is_reached(index, observed):
            index, steps = index + 1, 0
        return SubGoalProgress(index, steps)

    def after_all(self, observed: Iterable[Latent]) -> SubGoalProgress:
        """Returns the progress after all frames of an episode so far, one action between two."""
        progress = SubGoalProgress()
        for position, latent in enumerate(observed):
            progress = self.after(progress, latent, num_steps=min(position, 1))
        return progress

    def _is_reached(self, index: int, observed: Latent) -> bool:
        if self.reached_within is None:
            return False
        return bool(self.distance(observed.tokens, self.goals[index].tokens) <= self.reached_within)

    def _refuse_other_steps(self) -> None:
        if self.max_steps is None:
            return
        if len(self.max_steps) != len(self.goals) - 1 or min(self.max_steps, default=1) < 1:
            raise ValueError(
                f"max_steps must be a number of at least 1 for each of the {len(self.goals)} goals "
                f"but the last, got {self.max_steps}"
            )
