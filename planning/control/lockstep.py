"""Many episodes in lockstep: environments step one by one, planning shares every model call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planning.control.mpc import Episode, EpisodeRecord, PlanningPolicy
from planning.search.rounds import Problem, SearchPlanner, plan_together
from planning.types import Environment, Plan


class Player:
    """One episode that advances when it is told to.

    Args:
        environment: of this episode alone.
        policy: plans; a fresh one.
        start: state to start at.
        goal: state whose picture is the goal.
        generator: randomness of the environment.

    Attributes:
        episode: what was seen and done so far.
    """

    def __init__(
        self,
        environment: Environment,
        policy: PlanningPolicy,
        *,
        start: np.ndarray,
        goal: np.ndarray,
        generator: np.random.Generator,
    ) -> None:
        self.policy = policy
        self.episode = Episode(environment, start=start, goal=goal, generator=generator)

    @property
    def is_over(self) -> bool:
        """No step is left."""
        return self.episode.is_over

    def prepare(self) -> Problem | None:
        """Looks, and returns what must be planned; None if nothing is."""
        return self.policy.prepare(self.episode.environment, self.episode.time_step)

    def advance(self) -> None:
        """Executes the next action."""
        self.episode.advance(self.policy.act())

    def record(self) -> EpisodeRecord:
        """Returns what happened."""
        return self.episode.record_with_plans(self.episode.record(), self.policy)


def play_together(players: Sequence[Player]) -> list[EpisodeRecord]:
    """Runs episodes to their ends, side by side.

    Each episode has its own generators, so its outcome is what it would be alone, but for the
    rounding of larger batches. Plans made together share the deadline, and a plan's `seconds` is
    its share of the time.

    Args:
        players: whose policies share one world, one planner and one deadline.

    Raises:
        ValueError: if they do not, or if the planner cannot plan together.
    """
    first = players[0].policy
    if any(_shared(player.policy) != _shared(first) for player in players):
        raise ValueError("episodes in lockstep must share one world, one planner and one deadline")
    if not isinstance(first.planner, SearchPlanner):
        raise ValueError(
            f"{type(first.planner).__name__} is no SearchPlanner, so it cannot plan for several "
            "episodes together; use batch_size=1"
        )
    while playing := [player for player in players if not player.is_over]:
        asked = [(player, problem) for player in playing if (problem := player.prepare())]
        if asked:
            plans = plan_together(
                first.planner,
                first.world,
                [problem for _, problem in asked],
                deadline_seconds=first.deadline_seconds,
            )
            for (player, _), plan in zip(asked, plans, strict=True):
                player.policy.accept(_with_share_of_time(plan, len(plans)))
        for player in playing:
            player.advance()
    return [player.record() for player in players]


def _shared(policy: PlanningPolicy) -> tuple[object, ...]:
    return id(policy.world), policy.planner, policy.deadline_seconds


def _with_share_of_time(plan: Plan, num_plans: int) -> Plan:
    return replace(plan, seconds=plan.seconds / num_plans)
