"""The planner of a run under a card: what the card says, what the user changed, and how it differs.

A run may deviate from its card, but not in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from planning.actions.parameterization import Parameterization
from planning.actions.space import ActionSteps
from planning.benchmarking.protocol_card import PlannerChoice, ProtocolCard
from planning.control.limited_actions import NO_LIMITS, ActionLimits
from planning.search.rounds import SearchPlanner
from planning.search.settings import make_planner, settings_of


@dataclass(frozen=True)
class Wishes:
    """What a user wants otherwise; None: as the card says.

    Attributes:
        planner: its name.
        settings: of the planner, without the horizon.
        horizon: actions of the world model in a plan.
        execute: actions of the world model that are executed of each plan.
        cost: over the steps of a plan.
        parameterization: what is chosen of a plan.
        deadline_seconds: of a plan.
    """

    planner: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    horizon: int | None = None
    execute: int | None = None
    cost: Literal["mean", "last"] | None = None
    parameterization: Parameterization | None = None
    deadline_seconds: float | None = None


@dataclass(frozen=True)
class PlanningSetup:
    """How to plan.

    Attributes:
        name: of the planner.
        planner: with its horizon, in actions of the world model.
        execute: actions of the world model that are executed of each plan.
        cost: over the steps of a plan.
        deadline_seconds: of a plan; None: none.
        limits: that plans keep besides those of the environment.
    """

    name: str
    planner: SearchPlanner
    execute: int
    cost: Literal["mean", "last"]
    deadline_seconds: float | None = None
    limits: ActionLimits = NO_LIMITS

    def described(self) -> dict[str, Any]:
        """Returns all of it as plain values."""
        return {
            "name": self.name,
            "settings": settings_of(self.planner),
            "execute": self.execute,
            "cost": self.cost,
            "deadline_seconds": self.deadline_seconds,
            "limits": {name: list(bounds) for name, bounds in self.limits.bounds.items()},
        }


def card_setup(
    card: ProtocolCard, action_steps: ActionSteps, choice: PlannerChoice | None = None
) -> PlanningSetup:
    """Returns what the card says, for a world model of this action block.

    Args:
        card: the protocol.
        action_steps: how many steps an action of the world model spans.
        choice: another planner, by the card's own steps.

    Raises:
        ValueError: if the card's planner or its settings do not exist, or the steps of a plan are
            no whole number of the world model's actions.
    """
    choice = choice or card.planner
    horizon = _actions(card.horizon_steps, action_steps, f"{card.title}: horizon_steps")
    execute = _actions(card.execute_steps, action_steps, f"{card.title}: execute_steps")
    planner = make_planner(choice.name, {**choice.settings, "horizon": horizon})
    return PlanningSetup(choice.name, planner, execute, choice.cost, limits=choice.action_limits)


def wished_setup(card: ProtocolCard, action_steps: ActionSteps, wishes: Wishes) -> PlanningSetup:
    """Returns what the card and the user say together; the user wins.

    Another planner does not inherit the settings of the card's: they mean other things there.

    Raises:
        ValueError: see `card_setup`; also if `execute` is below 1 or above the horizon.
    """
    is_other = wishes.planner is not None and not _is_same(wishes.planner, card.planner.name)
    name = wishes.planner if is_other and wishes.planner else card.planner.name
    settings = {} if is_other else dict(card.planner.settings)
    horizon, execute = wishes.horizon, wishes.execute
    if horizon is None:
        horizon = _actions(card.horizon_steps, action_steps, f"{card.title}: horizon_steps")
    if execute is None:
        execute = _actions(card.execute_steps, action_steps, f"{card.title}: execute_steps")
        execute = min(execute, horizon) if wishes.horizon is not None else execute
    planner = make_planner(name, {**settings, **wishes.settings, "horizon": horizon})
    if wishes.parameterization is not None:
        planner = replace(planner, parameterization=wishes.parameterization)
    if not 1 <= execute <= planner.horizon:
        raise ValueError(
            f"--execute must be from 1 to the horizon {planner.horizon}, got {execute}"
        )
    cost = wishes.cost or card.planner.cost
    limits = card.planner.action_limits  # of the task, not of one planner
    return PlanningSetup(name, planner, execute, cost, wishes.deadline_seconds, limits)


def deviations(card: ProtocolCard, setup: PlanningSetup, action_steps: ActionSteps) -> list[str]:
    """Returns how a setup deviates from the card, one line each; empty if it does not."""
    per_action = action_steps.num_steps
    found = []
    if not _is_same(setup.name, card.planner.name):
        found.append(f"planner {setup.name} (card: {card.planner.name})")
    else:
        theirs = settings_of(make_planner(card.planner.name, card.planner.settings))
        ours = settings_of(setup.planner)
        found += [
            f"{key} {ours[key]} (card: {theirs[key]})"
            for key in ours
            if key != "horizon" and ours[key] != theirs[key]
        ]
    for what, actions, steps in (
        ("horizon", setup.planner.horizon, card.horizon_steps),
        ("execute", setup.execute, card.execute_steps),
    ):
        if actions * per_action != steps:
            found.append(f"{what} {actions * per_action} steps (card: {steps})")
    if setup.cost != card.planner.cost:
        found.append(f"cost {setup.cost} (card: {card.planner.cost})")
    if setup.deadline_seconds is not None:
        found.append(f"deadline {1e3 * setup.deadline_seconds:g} ms (card: none)")
    return found


def _actions(steps: int, action_steps: ActionSteps, what: str) -> int:
    count, rest = divmod(steps, action_steps.num_steps)
    if rest or not count:
        raise ValueError(
            f"{what} {steps} is no multiple of the {action_steps.num_steps} steps that an action "
            "of this world model spans; say --horizon and --execute in its actions"
        )
    return count


def _is_same(one: str, other: str) -> bool:
    return one.replace("-", "_") == other.replace("-", "_")
