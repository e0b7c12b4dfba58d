"""What a run leaves in log.json, also if it fails: plans, steps, versions, settings."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from planning.control.mpc import PlanRecord
from planning.control.running import Outcome
from planning.types import Environment, TimeStep

FORMAT = 1


def run_log(outcome: Outcome, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the log of a run as plain numbers and text.

    Args:
        outcome: what came of it.
        settings: what it was asked to do.
    """
    episode, lateness = outcome.episode, outcome.lateness
    distances = episode.latent_distances
    told = _log(settings, episode.plans, episode.states, episode.actions)
    told["result"] |= {
        "is_success": outcome.is_success,
        "judge": outcome.judge,
        "reached_distance": outcome.reached_distance,
        "final_distance": episode.final_distance,
        "final_latent_distance": distances[-1] if distances else None,
    }
    told["lateness"] = None if lateness is None else asdict(lateness)
    told["num_late_steps"] = outcome.num_late_steps
    told["steps"]["latent_distances"] = distances
    return _finite_or_none(told)


class WatchedEnvironment:
    """An environment that notes states and actions, so that a run that fails can be told.

    An action is noted before it is executed: if that fails, the robot may have moved, and the state
    after it is NaN. Everything else is the environment's.

    Args:
        environment: does everything.

    Attributes:
        states: since the episode began, one more than actions, each (state_dim,).
        actions: that were to be executed, also to stop the robot, each (action_dim,).
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.states: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Returns what the environment has."""
        return getattr(self._environment, name)

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode; one that is reset after its first action goes on, see `ImageGoal`."""
        time_step = self._environment.reset(generator, start=start, goal=goal)
        if not self.actions:
            self.states = [time_step.state]
        return time_step

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once."""
        self.actions.append(action)
        self.states.append(np.full_like(self.states[-1], np.nan))
        time_step = self._environment.step(action)
        self.states[-1] = time_step.state
        return time_step


def failed_run_log(
    error: BaseException,
    *,
    settings: Mapping[str, Any],
    plans: Sequence[PlanRecord],
    watched: WatchedEnvironment,
) -> dict[str, Any]:
    """Returns the log of a run that an error ended: what there is, and `error` in the result.

    Args:
        error: what ended it; its notes are told, too.
        settings: what it was asked to do.
        plans: made before.
        watched: where it acted.
    """
    told = _log(settings, plans, watched.states, watched.actions)
    first = f"{type(error).__name__}: {error}".removesuffix(": ")
    told["result"]["error"] = "; ".join([first, *getattr(error, "__notes__", [])])
    return _finite_or_none(told)


def _log(
    settings: Mapping[str, Any],
    plans: Sequence[PlanRecord],
    states: Sequence[np.ndarray],
    actions: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Returns what every log has, of a run that has no result yet."""
    return {
        "format": FORMAT,
        "versions": versions(),
        "settings": dict(settings),
        "result": {
            "is_success": False,
            "error": None,
            "judge": None,
            "reached_distance": None,
            "num_steps": len(actions),
            "num_plans": len(plans),
            "final_distance": None,
            "final_latent_distance": None,
            "seconds_planning": sum(record.plan.seconds for record in plans),
        },
        "lateness": None,
        "num_late_steps": 0,
        "plans": [plan_log(record) for record in plans],
        "steps": {
            "states": [np.asarray(state).tolist() for state in states],
            "actions": [np.asarray(action).tolist() for action in actions],
            "latent_distances": [],
        },
    }


def plan_log(record: PlanRecord) -> dict[str, Any]:
    """Returns one plan: costs, spread, uncertainty, saturation, milliseconds, actions."""
    plan = record.plan
    return {
        "step": record.step,
        "begins_at_step": record.begins_at_step,
        "goal_index": record.goal_index,
        "latent_distance": record.latent_distance,
        "cost": plan.cost,
        "cost_parts": dict(record.cost_parts),
        "best_costs": list(plan.best_costs),
        "elite_costs": list(plan.elite_costs),
        "elite_cost_spreads": list(plan.elite_cost_spreads),
        "spread": plan.spread.tolist(),
        "uncertainty": None if plan.uncertainty is None else plan.uncertainty.tolist(),
        "saturation": plan.saturation,
        "milliseconds": plan.seconds * 1e3,
        "iterations": plan.iterations,
        "is_finished": plan.is_finished,
        "num_rollouts": plan.num_rollouts,
        "num_ruled_out": plan.num_ruled_out,
        "source": plan.source,
        "warnings": list(plan.warnings),
        "imagined_distances": record.imagined_distances.tolist(),
        "actions": plan.actions.tolist(),
    }


def versions() -> dict[str, str]:
    """Returns what this run was made with."""
    try:
        ours = importlib.metadata.version("jepa-planning")
    except importlib.metadata.PackageNotFoundError:  # run from a copy of the source
        ours = "not installed"
    return {
        "jepa-planning": ours,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON that every reader understands: no NaN, no infinity."""
    path.write_text(json.dumps(_finite_or_none(content), indent=1, allow_nan=False) + "\n")


def _finite_or_none(value: Any) -> Any:  # noqa: ANN401
    """Returns the same with None where a number is not finite, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite_or_none(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
