"""Options of `jepa plan` that say what actions may be, and which one stands still."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from planning.actions.space import ActionSpec
    from planning.control.limited_actions import ActionLimits
    from planning.types import Environment


def add_action_options(verb: argparse.ArgumentParser) -> None:
    """Adds limits of actions that tighten those of the environment."""
    verb.add_argument(
        "--limit", action="append", default=[], metavar="NAME=LOW:HIGH",
        help="bounds of an action dimension inside the environment's; a side may be left out",
    )  # fmt: skip
    verb.add_argument(
        "--max-change", action="append", default=[], metavar="NAME=VALUE",
        help="largest change of an action dimension from step to step",
    )  # fmt: skip


def add_standstill_option(verb: argparse.ArgumentParser) -> None:
    """Adds the action that stands still."""
    verb.add_argument(
        "--standstill",
        help="the action that stands still: values, or the name of a choice; default: zero",
    )


def limits_of(arguments: argparse.Namespace) -> ActionLimits:
    """Returns the limits that the options describe.

    Raises:
        ValueError: if one cannot be read, is given twice or leaves nothing.
    """
    from planning.control.limited_actions import ActionLimits

    bounds = named_values(arguments.limit, option="--limit", form="NAME=LOW:HIGH")
    changes = named_values(arguments.max_change, option="--max-change", form="NAME=VALUE")
    return ActionLimits(
        {name: interval(text, option="--limit") for name, text in bounds.items()},
        {name: number(text, option="--max-change") for name, text in changes.items()},
    )


def limited(environment: Environment, limits: ActionLimits) -> Environment:
    """Returns an environment whose actions keep the limits; itself if there are none.

    Raises:
        ValueError: if a limit does not fit the environment.
    """
    from planning.control.limited_actions import LimitedActions

    return cast("Environment", LimitedActions(environment, limits)) if limits else environment


def standstill_of(text: str | None, spec: ActionSpec) -> tuple[float, ...] | None:
    """Returns the action that stands still, written as `0,0.5` or as the name of a choice.

    Raises:
        ValueError: if it is no action of the spec.
    """
    if text is None:
        return None
    if spec.kind == "one_hot" and text in spec.names:
        return tuple(float(name == text) for name in spec.names)
    try:
        action = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        action = np.empty(0, np.float32)
    is_action = action.shape == (spec.dim,) and bool(np.isfinite(action).all())
    if spec.kind == "one_hot":
        if not is_action or sorted(action.tolist()) != [0.0] * (spec.dim - 1) + [1.0]:
            raise ValueError(f"--standstill must be one of {', '.join(spec.names)}, got {text!r}")
    elif not is_action or not np.allclose(spec.validate(action), action):
        raise ValueError(
            f"--standstill must be {spec.dim} numbers inside the limits of an action "
            f"({','.join(spec.names)}), got {text!r}"
        )
    return tuple(action.tolist())


def named_values(pairs: Iterable[str], *, option: str, form: str) -> dict[str, str]:
    """Returns `["dx=-1:1", ...]` as a mapping from names to what they are.

    Raises:
        ValueError: if one is not a name, an equals sign and something, or a name comes twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise ValueError(f"{option} needs {form}, got {pair!r}")
        if name in values:
            raise ValueError(f"{option} is given twice for {name!r}: {values[name]} and {value}")
        values[name] = value
    return values


def interval(text: str, *, option: str) -> tuple[float, float]:
    """Returns `-1:2` as its ends; a side that is left out is infinite.

    Raises:
        ValueError: if it is no interval, or has no end at all.
    """
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon or not (low or high):
        raise ValueError(f"{option} needs LOW:HIGH, for example -1:2 or :2, got {text!r}")
    return (
        number(low, option=option) if low else -math.inf,
        number(high, option=option) if high else math.inf,
    )


def number(text: str, *, option: str) -> float:
    """Returns a finite number. Raises ValueError if it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{option} needs finite numbers, got {text!r}")
    return value
