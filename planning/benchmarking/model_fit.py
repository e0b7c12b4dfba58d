"""Whether a world model was made for a card's environment, and what it sees of it.

Environments have as many action columns as others: what tells them apart is what the columns mean,
and where the recordings are from. Another meaning is refused; other bounds or another rate may be
meant, and are told as deviations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planning.benchmarking.protocol_card import ProtocolCard, StateUse
from planning.benchmarking.training_data import TrainingData
from planning.control.mpc import joined_spec
from planning.latent_world import LatentWorld
from planning.recording import OBJECT_PREFIXES
from planning.types import Environment

STATE_USES: tuple[StateUse, ...] = ("none", "robot", "all")  # each sees what those before it see
SHOWN_COLUMNS = 7


def refuse_other_environment(
    card: ProtocolCard, environment: Environment, world: LatentWorld, training: TrainingData
) -> None:
    """Raises ValueError if the world model was made for other frames, actions, states or places.

    What nobody says of a world model cannot be refused; `fit_deviations` tells it.
    """
    name = environment.name
    if training.environment not in (None, name):
        raise ValueError(
            f"{card.title} is of {name}, the world model was trained on recordings of "
            f"{training.environment} ({training.shards}); use one that was trained on {name}"
        )
    expected, actions = joined_spec(world, environment), world.model.actions
    if actions is not None:
        theirs = _columns(actions.names, actions.units)
        _refuse_other(card, "actions", theirs, _columns(expected.names, expected.units))
    ours = _columns(environment.state_names, environment.state_units)
    names, units = training.state_names, training.state_units
    if world.model.dynamics.state_dim not in (0, len(ours)):
        raise ValueError(
            f"the world model sees states of {world.model.dynamics.state_dim} columns, {name} has "
            f"{len(ours)} ({', '.join(ours)}); use one that was trained on {name}"
        )
    if world.model.dynamics.state_dim and names is not None and units is not None:
        _refuse_other(card, "states", _columns(names, units), ours)
    if environment.image_size != world.image_size:
        raise ValueError(
            f"{card.title} has frames of {environment.image_size} pixels, the world model was made "
            f"for {world.image_size}; use one that was trained on this card's environment"
        )


def fit_deviations(
    card: ProtocolCard, environment: Environment, world: LatentWorld, training: TrainingData
) -> list[str]:
    """Returns how a world model deviates from a card, one line each."""
    found = card.model_differences(world.action_steps, world.context_frames)
    found += _action_deviations(environment, world)
    use = state_use(world, environment)
    if STATE_USES.index(use) > STATE_USES.index(card.state):
        found.append(f"the world model sees the state: {use} (card: {card.state})")
    varied = card.variation.factors if card.variation is not None else ()
    if both := [name for name in varied if name in (training.vary or ())]:
        found.append(f"trained on varied {', '.join(both)}, which the card varies")
    if varied and "all" in (training.vary or ()):
        found.append("trained on all factors varied, also those that the card varies")
    return found


def state_use(world: LatentWorld, environment: Environment) -> StateUse:
    """Returns what a world model sees beyond pixels.

    One that uses the state sees all of its columns; those of objects have names that tell, see
    `planning.recording.OBJECT_PREFIXES`.
    """
    if not world.model.dynamics.state_dim:
        return "none"
    has_objects = any(name.startswith(OBJECT_PREFIXES) for name in environment.state_names)
    return "all" if has_objects else "robot"


def _action_deviations(environment: Environment, world: LatentWorld) -> list[str]:
    actions = world.model.actions
    if actions is None:
        return ["the checkpoint does not say what its actions mean: only their number is compared"]
    found, expected = [], world.action_steps.joined(environment.action_spec)
    # Those of pose differences are what was seen, not what is allowed.
    if actions.mode != "pose_difference":
        for bound in ("low", "high"):
            theirs, ours = getattr(actions, bound), getattr(expected, bound)
            if not np.allclose(theirs, ours, rtol=1e-5, atol=0):
                found.append(f"trained with action {bound} {_shown(theirs)} (card: {_shown(ours)})")
    rate, ours = actions.frames_per_second * actions.num_steps, environment.frames_per_second
    if not np.isclose(rate, ours, rtol=1e-3):
        found.append(f"trained at {rate:g} steps a second (card: {ours:g})")
    return found


def _columns(names: Sequence[str], units: Sequence[str]) -> list[str]:
    return [f"{name} [{unit}]" for name, unit in zip(names, units, strict=True)]


def _refuse_other(
    card: ProtocolCard, what: str, theirs: Sequence[str], ours: Sequence[str]
) -> None:
    if list(theirs) != list(ours):
        raise ValueError(
            f"the world model was trained with {what} {_shown(theirs)}, {card.title} has "
            f"{_shown(ours)}; use one that was trained on {card.environment.name}"
        )


def _shown(values: Sequence[object]) -> str:
    """Returns a list in few words."""
    text = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    more = f", ... ({len(text)} in all)" if len(text) > SHOWN_COLUMNS else ""
    return f"({', '.join(text[:SHOWN_COLUMNS])}{more})"
