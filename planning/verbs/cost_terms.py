"""What a plan costs in one world and one environment, by the names of the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planning.actions.space import ActionSpec
from planning.control.goal_pursuit import CostMaker
from planning.costs import (
    ActionChange,
    ActionSize,
    Box,
    Disagreement,
    GoalDistance,
    KeepOut,
    LatentBank,
    OutOfDistribution,
    StateDistance,
    StateUnits,
    WeightedSum,
    Workspace,
    distance_named,
)
from planning.costs.latent_banks import MAX_FEATURES
from planning.latent_world import LatentWorld
from planning.types import Cost, Environment, Latent
from planning.verbs.cost_options import AskedCosts, region_of

TermMaker = Callable[[int], Cost]
BANK_FILE = "known_latents.safetensors"


@dataclass(frozen=True)
class CostTerms:
    """All terms but the goal, ready for any number of steps.

    Attributes:
        asked: what was asked for.
        makers: by name, what makes a term for plans of so many actions.
    """

    asked: AskedCosts
    makers: Mapping[str, TermMaker]

    def cost_of(self, num_steps: int) -> CostMaker:
        """Returns what makes the cost of a goal.

        Args:
            num_steps: actions of the plans that it scores.
        """
        weights, asked = self.asked.weights, self.asked
        terms = {
            name: (weights.get(name, 1.0), make(num_steps)) for name, make in self.makers.items()
        }

        return partial(_cost_of_goal, asked=asked, terms=terms)  # can be sent to another process

    def to_json(self, num_steps: int) -> dict[str, Any]:
        """Returns the terms with their weights and settings, for a log."""
        goal = {
            "weight": self.asked.weights["goal"],
            "distance": self.asked.distance,
            "is_pooled": self.asked.is_pooled,
            "reduction": _told(self.asked.reduction),
        }
        terms = {
            name: {"weight": self.asked.weights.get(name, 1.0), **_told(make(num_steps))}
            for name, make in self.makers.items()
        }
        return {"goal": goal, **terms}


def _cost_of_goal(
    goal: Latent, world: LatentWorld, *, asked: AskedCosts, terms: Mapping[str, tuple[float, Cost]]
) -> Cost:
    distance = distance_named(asked.distance, own=world.distance, is_pooled=asked.is_pooled)
    to_goal = GoalDistance(goal, distance, asked.reduction)
    if not terms and asked.weights["goal"] == 1:
        return to_goal
    return WeightedSum({"goal": (asked.weights["goal"], to_goal), **terms})


def cost_terms_of(
    asked: AskedCosts,
    world: LatentWorld,
    environment: Environment,
    *,
    goal_state: Any = None,  # noqa: ANN401 - anything that is an array
    num_steps: int = 1,
    out: Path | None = None,
) -> CostTerms:
    """Returns the terms that were asked for.

    Args:
        asked: what for.
        world: the world model that plans.
        environment: says what actions and states are.
        goal_state: (state_dim,), raw; for the term of that name.
        num_steps: actions of the longest plans.
        out: folder where a bank of known latents that is made here is kept.

    Raises:
        ValueError: if the world model or the environment lacks what a term needs.
    """
    spec = world.action_steps.joined(environment.action_spec)
    makers: dict[str, TermMaker] = {}
    for name, weight in asked.weights.items():
        if weight and name in ("action_size", "action_change", "action_jerk"):
            makers[name] = _always(action_term(name, spec))
    if asked.weights.get("disagreement"):
        makers["disagreement"] = _disagreement(asked, world, num_steps)
    if asked.weights.get("out_of_distribution"):
        bank = _bank(asked, world, out)
        makers["out_of_distribution"] = _always(OutOfDistribution(bank))
    if asked.weights.get("state_distance"):
        units = _units(world, "--cost-term state_distance")
        goal = units.normalized(torch.as_tensor(goal_state, dtype=units.mean.dtype))
        periods = periods_of(environment.state_units).to(goal) / units.std
        distance = StateDistance(goal, reduction=asked.reduction, periods=periods)
        makers["state_distance"] = _always(distance)
    makers |= {name: _always(cost) for name, cost in _regions(asked, world, environment).items()}
    return CostTerms(asked, makers)


def periods_of(units: Sequence[str]) -> torch.Tensor:
    """Returns after how much a value of each unit comes round: (units,), infinity for most."""
    whole_turns = {"radian": 2 * math.pi, "degree": 360.0}
    return torch.tensor([whole_turns.get(unit, math.inf) for unit in units])


@dataclass(frozen=True)
class OfSteps:
    """A cost of actions that is told of the steps of the environment, one after the other.

    Attributes:
        cost: scores (samples, steps, action_dim).
        action_spec: of the world model's actions.
    """

    cost: Cost
    action_spec: ActionSpec

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores rollouts: (samples,)."""
        return self.cost(imagined, self.action_spec.in_steps(actions))


def _always(cost: Cost) -> TermMaker:
    return lambda num_steps: cost


def action_term(name: str, spec: ActionSpec) -> Cost:
    """Returns what actions cost by themselves, in half-ranges, step by step of the environment.

    Args:
        name: "action_size", "action_change" or "action_jerk".
        spec: of the world model's actions.

    Raises:
        ValueError: if choices, which have no size, should be small.
    """
    if spec.kind == "one_hot" and name == "action_size":
        raise ValueError(
            "--cost-term action_size would decide nothing: actions here are choices "
            f"({', '.join(spec.names)}), all of one size"
        )
    one = spec.one_step or spec
    scale = torch.tensor([(high - low) / 2 for low, high in zip(one.low, one.high, strict=True)])
    if name == "action_size":
        return OfSteps(ActionSize(scale), spec)
    return OfSteps(ActionChange(1 if name == "action_change" else 2, scale=scale), spec)


def _disagreement(asked: AskedCosts, world: LatentWorld, num_steps: int) -> TermMaker:
    if world.num_members < 2:
        raise ValueError(
            "--cost-term disagreement needs a world model with an ensemble, this one has one "
            "member; train one (configs/world_model/ensemble_tiny.yaml), or use "
            "out_of_distribution with --known-data"
        )
    if asked.known_data is None:
        return _always(Disagreement())
    from planning.costs.recorded_latents import disagreement_on_shards  # brings Lightning along

    familiar = disagreement_on_shards(
        world,
        asked.known_data,
        horizon=num_steps,
        num_windows=max(1, asked.known_frames // num_steps),
        image_size=world.image_size,
        **_windows_of(world),
    )
    print(f"disagreement that is normal: measured on {len(familiar)} windows of {asked.known_data}")
    return lambda steps: Disagreement.calibrated(familiar[:, :steps])


def _windows_of(world: LatentWorld) -> dict[str, Any]:
    """Returns how recorded actions become actions of the world model."""
    meaning = world.model.actions
    if meaning is None:
        return {}
    return {
        "frame_stride": meaning.num_steps,
        "actions": meaning.mode,
        "action_reduction": meaning.reduction,
    }


def _bank(asked: AskedCosts, world: LatentWorld, out: Path | None) -> LatentBank:
    """Returns what is known, read or made of recordings."""
    assert asked.known_data is not None
    if asked.knows_a_bank:
        return LatentBank.load(asked.known_data, device=world.device)
    from planning.costs.recorded_latents import bank_of_shards  # brings Lightning along

    dynamics = world.model.dynamics
    num_features = math.prod(dynamics.grid) * dynamics.latent_dim
    bank = bank_of_shards(
        world,
        asked.known_data,
        image_size=world.image_size,
        num_frames=asked.known_frames,
        is_pooled=num_features > MAX_FEATURES,
    )
    if out is not None:
        print(
            f"latents that are known: made of {asked.known_data}, and kept: "
            f"{bank.save(out / BANK_FILE)} (give it as --known-data from now on)"
        )
    return bank


def _regions(asked: AskedCosts, world: LatentWorld, environment: Environment) -> dict[str, Cost]:
    """Returns what keeps the imagined state out of regions, and in the workspace."""
    if not asked.keep_out and asked.workspace is None:
        return {}
    units = _units(world, "--keep-out" if asked.keep_out else "--workspace")
    names, margin = environment.state_names, asked.margin
    regions: dict[tuple[int, ...], list[Any]] = {}
    for text in asked.keep_out:
        region, columns = region_of(text, names, option="--keep-out")
        regions.setdefault(columns, []).append(region)
    is_hard = "keep_out" not in asked.weights
    costs: dict[str, Cost] = {}
    if regions:
        costs["keep_out"] = WeightedSum({
            ",".join(names[column] for column in columns):
            (1.0, KeepOut(tuple(part), columns, units, margin, is_hard))
            for columns, part in regions.items()
        })  # fmt: skip
    if asked.workspace is not None:
        box, columns = region_of(asked.workspace, names, option="--workspace")
        if not isinstance(box, Box):
            raise ValueError(f"--workspace must be a box, got {asked.workspace!r}")
        is_hard = "workspace" not in asked.weights
        costs["workspace"] = Workspace(box, columns, units, margin, is_hard)
    return costs


def _units(world: LatentWorld, option: str) -> StateUnits:
    units = world.state_units
    if units is None:
        raise ValueError(
            f"{option} needs a world model that imagines the state, this one imagines latents "
            "only; train it with uses_state=True"
        )
    return units


def _told(value: Any) -> Any:  # noqa: ANN401
    """Returns a cost, or a setting of one, as numbers and text."""
    if isinstance(value, LatentBank):
        return {
            "class": type(value).__name__,
            "threshold": value.threshold,
            "is_pooled": value.is_pooled,
        }
    if isinstance(value, ActionSpec):
        return list(value.names)
    if is_dataclass(value):
        return {"class": type(value).__name__, **{k: _told(v) for k, v in vars(value).items()}}
    if isinstance(value, Mapping):
        return {key: _told(part) for key, part in value.items()}
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_told(part) for part in value]
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)
