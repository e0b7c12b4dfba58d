"""What is kept of an episode under a card, and what many of them add up to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from planning.benchmarking.protocol_card import ProtocolCard
from planning.control.mpc import EpisodeRecord
from planning.evaluation import Rate, Task

# What another machine, or another load of this one, may change.
TIMINGS = ("seconds_per_plan", "rollouts_per_second")


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode.

    Attributes:
        task: its index in the task file.
        group: of the task.
        is_success: by the card's test.
        is_success_at_any_step: after at least one action.
        is_success_at_last_step: of the budget.
        first_success_step: actions until the first success; None: there was none.
        was_solved_at_start: before any action.
        final_distance: to the goal, in the card's unit.
        least_distance: after at least one action.
        num_steps: actions.
        num_plans: how often it planned.
        seconds_per_plan: median; None if nothing was planned.
        rollouts_per_second: imagined sequences over the time of all plans.
        plan_warnings: how often plans said what.
        actions: (steps, action_dim), what was done; not in the file.
        failure: of the environment, which ended the episode without a success; None: it was none.
    """

    task: int
    group: str
    is_success: bool
    is_success_at_any_step: bool
    is_success_at_last_step: bool
    first_success_step: int | None
    was_solved_at_start: bool
    final_distance: float
    least_distance: float
    num_steps: int
    num_plans: int
    seconds_per_plan: float | None
    rollouts_per_second: float | None
    plan_warnings: dict[str, int]
    actions: np.ndarray = field(repr=False, compare=False)
    failure: str | None = None

    @classmethod
    def of(
        cls,
        card: ProtocolCard,
        task: Task,
        index: int,
        record: EpisodeRecord,
        distances: Sequence[float],
        failure: str | None = None,
    ) -> EpisodeOutcome:
        """Judges an episode by the distances after its reset and after each of its steps."""
        is_near = [distance < card.success.within for distance in distances]
        seconds = [one.plan.seconds for one in record.plans]
        rollouts = sum(one.plan.num_rollouts for one in record.plans)
        return cls(
            task=index,
            group=task.group,
            is_success=failure is None and card.is_success(list(distances)),
            is_success_at_any_step=failure is None and any(is_near[1:]),
            is_success_at_last_step=failure is None and is_near[-1],
            first_success_step=next((step for step, near in enumerate(is_near) if step and near),
                                    None),
            was_solved_at_start=is_near[0],
            final_distance=float(distances[-1]),
            least_distance=float(min(distances[1:] or distances)),
            num_steps=record.num_steps,
            num_plans=len(record.plans),
            seconds_per_plan=float(np.median(seconds)) if seconds else None,
            rollouts_per_second=rollouts / sum(seconds) if seconds else None,
            plan_warnings=dict(Counter(w for one in record.plans for w in one.plan.warnings)),
            actions=np.stack(record.actions),
            failure=failure,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Everything but the actions, and a failure where there was one."""
        row = {key: value for key, value in asdict(self).items() if key != "actions"}
        if self.failure is None:
            del row["failure"]
        return row


@dataclass(frozen=True)
class PolicyOutcome:
    """One policy on the tasks of a card.

    Attributes:
        policy: its name.
        kind: the planner under test, or a control.
        episodes: one per task, in order.
        seconds: wall-clock time of all.
        note: what a reader of its numbers should know.
    """

    policy: str
    kind: str
    episodes: tuple[EpisodeOutcome, ...]
    seconds: float
    note: str = ""

    @property
    def success(self) -> Rate:
        """By the card's test."""
        return Rate.of([episode.is_success for episode in self.episodes])

    @property
    def failures(self) -> list[str]:
        """What the environment failed with, a task a line."""
        return [f"task {one.task}: {one.failure}" for one in self.episodes if one.failure]

    def summary(self) -> dict[str, Any]:
        """Returns rates with their intervals, distances and times."""
        about = {"policy": self.policy, "kind": self.kind, "note": self.note}
        rows = [episode.to_json() for episode in self.episodes]
        return {**about, **summary_of(rows), "seconds": self.seconds}


def summary_of(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what episodes add up to: a summary that says otherwise was not made of them.

    Args:
        episodes: as `EpisodeOutcome.to_json` has them, at least one.
    """
    groups = sorted({episode["group"] for episode in episodes})
    final = [episode["final_distance"] for episode in episodes]
    num_failures = sum("failure" in episode for episode in episodes)
    warnings = sum((Counter(episode["plan_warnings"]) for episode in episodes), Counter())
    return {
        "success": _rate(episodes, "is_success"),
        "success_at_any_step": _rate(episodes, "is_success_at_any_step"),
        "success_at_last_step": _rate(episodes, "is_success_at_last_step"),
        "solved_at_start": _rate(episodes, "was_solved_at_start"),
        "groups": {
            group: _rate([e for e in episodes if e["group"] == group], "is_success")
            for group in groups
        },
        "final_distance": {"median": float(np.median(final)), "mean": float(np.mean(final))},
        "seconds_per_plan": _median(episodes, "seconds_per_plan"),
        "rollouts_per_second": _median(episodes, "rollouts_per_second"),
        "plan_warnings": dict(warnings),
        "outcomes_sha256": fingerprint(episodes),
        **({"num_failures": num_failures} if num_failures else {}),
    }


def fingerprint(episodes: Sequence[Mapping[str, Any]]) -> str:
    """Returns a hash of what happened in episodes, whatever time it took."""
    kept = [{k: v for k, v in episode.items() if k not in TIMINGS} for episode in episodes]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def by_rule(episodes: Sequence[EpisodeOutcome]) -> dict[str, EpisodeOutcome]:
    """Returns the worst, the median and the best episode by final distance; ties by their order."""
    ranked = sorted(episodes, key=lambda episode: (episode.final_distance, episode.task))
    return {"worst": ranked[-1], "median": ranked[(len(ranked) - 1) // 2], "best": ranked[0]}


def _rate(episodes: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    return Rate.of([bool(episode[name]) for episode in episodes])._asdict()


def _median(episodes: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [episode[name] for episode in episodes if episode[name] is not None]
    return float(np.median(values)) if values else None
