"""What a run leaves in log.json: every plan, every step, versions and settings."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from planning.mpc import PlanRecord
from planning.running import Outcome

FORMAT = 1


def run_log(outcome: Outcome, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the log of a run as plain numbers and text.

    Args:
        outcome: what came of it.
        settings: what it was asked to do.
    """
    episode, lateness = outcome.episode, outcome.lateness
    return _finite_or_none(
        {
            "format": FORMAT,
            "versions": versions(),
            "settings": dict(settings),
            "result": {
                "is_success": outcome.is_success,
                "judge": outcome.judge,
                "reached_distance": outcome.reached_distance,
                "num_steps": episode.num_steps,
                "num_plans": len(episode.plans),
                "final_distance": episode.final_distance,
                "final_latent_distance": episode.latent_distances[-1]
                if episode.latent_distances
                else None,
                "seconds_planning": sum(record.plan.seconds for record in episode.plans),
            },
            "lateness": None if lateness is None else asdict(lateness),
            "num_late_steps": outcome.num_late_steps,
            "plans": [plan_log(record) for record in episode.plans],
            "steps": {
                "states": [state.tolist() for state in episode.states],
                "actions": [action.tolist() for action in episode.actions],
                "latent_distances": episode.latent_distances,
            },
        }
    )


def plan_log(record: PlanRecord) -> dict[str, Any]:
    """Returns one plan: costs, spread, uncertainty, saturation, milliseconds, actions."""
    plan = record.plan
    return {
        "step": record.step,
        "begins_at_step": record.begins_at_step,
        "goal_index": record.goal_index,
        "latent_distance": record.latent_distance,
        "cost": plan.cost,
        "best_costs": list(plan.best_costs),
        "elite_costs": list(plan.elite_costs),
        "elite_cost_spreads": list(plan.elite_cost_spreads),
        "spread": plan.spread.tolist(),
        "uncertainty": None if plan.uncertainty is None else plan.uncertainty.tolist(),
        "saturation": plan.saturation,
        "milliseconds": plan.seconds * 1e3,
        "iterations": plan.iterations,
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
