"""Persistence, third part: there and back again by the inverse actions, is it the same place?

The recorded actions are imagined, then their inverses in reverse order; a consistent imagination
ends where it began. That is asked of windows only in which the inverse would have led back in the
recorded world, too: every action moved its own state column by what it says (dx: x), nothing else
moved, so no wall and no contact was in the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.rollouts import distances, imagine
from jepa.evaluation.world_model_card.verdict import (
    LEAST_EPISODES,
    NotMeasured,
    Verdict,
    mean_interval,
    ratio_interval,
)
from jepa.models.world_model import ActionColumns, LatentWorldModel

Inverse = Literal["auto", "negate", "none"]
MAX_RATIO = 0.5  # of the way out: nearer to the start than to the turning point
LEAST_WINDOWS = 8
MOVED_AS_SAID = 0.1  # of an action's standard deviation may be missing
HELD_STILL = 0.01  # of a column's standard deviation
_DISPLACEMENT = re.compile(r"d(x|y|z|roll|pitch|yaw|theta|angle|gripper)(@\d+)?")  # dx, dyaw, dx@3


@dataclass(frozen=True)
class RoundTrip:
    """How near an imagined way there and back ends to where it began.

    Attributes:
        num_steps: actions there, and as many back.
        num_windows: in which nothing was in the way; all, where no column tells.
        outward: latent distance of the turning point from the start.
        returned: of the end from the start.
        ratio: returned over outward; 0 is a perfect return.
        verdict: passes if the interval of the ratio lies below `MAX_RATIO`.
    """

    num_steps: int
    num_windows: int
    outward: Interval
    returned: Interval
    ratio: Interval
    verdict: Verdict


def measure_round_trip(
    model: LatentWorldModel,
    windows: HeldOutWindows,
    *,
    num_steps: int = 3,
    inverse: Inverse = "auto",
    seed: int = 0,
) -> RoundTrip | NotMeasured:
    """Imagines the first actions of every window, and back.

    Args:
        model: imagines.
        windows: where from, and what is done.
        num_steps: actions there; at most the horizon.
        inverse: "negate": minus an action undoes it. "none": nothing does. "auto": negate, where
            every action is a displacement by its name (dx, dyaw, ...) and its range is symmetric.
        seed: of the intervals.

    Returns:
        The numbers, or why there are none.
    """
    if windows.num_episodes < LEAST_EPISODES:
        return NotMeasured.because("needs two episodes for an interval")
    if inverse == "none" or (inverse == "auto" and not is_undone_by_minus(model.actions)):
        return NotMeasured.because(
            f"no inverse is known for the actions {', '.join(windows.action_names)}: they are not "
            "all displacements (--inverse negate says that minus an action undoes it)"
        )
    num_steps = min(num_steps, windows.horizon)
    is_free = moved_freely(windows, num_steps)
    free = windows.chosen(np.flatnonzero(is_free))
    if len(free.episodes) < LEAST_WINDOWS or free.num_episodes < LEAST_EPISODES:
        return NotMeasured.because(
            f"in {len(free.episodes)} of {len(is_free)} windows only were things moved by what the "
            f"actions say; {LEAST_WINDOWS} are needed: elsewhere the inverse leads somewhere else"
        )
    there = free.future_actions[:, :num_steps]
    imagined = imagine(model, free, torch.cat([there, undone(model.actions, there)], 1))
    start = free.start_latents
    outward = free.per_episode(distances(model, imagined[:, num_steps - 1], start))
    returned = free.per_episode(distances(model, imagined[:, -1], start))
    if not outward.sum() > 0:
        return NotMeasured.because("the imagined latent does not leave its start: nothing returns")
    return _result(num_steps, len(free.episodes), outward, returned, seed)


def moved_freely(windows: HeldOutWindows, num_steps: int) -> np.ndarray:
    """Returns in which windows the actions moved their columns by what they say: (windows,) bool.

    An action dx is of the column x, or of the only one that ends in _x. Columns of no action must
    hold still. Where no action has a column, nothing is known, and all windows count.
    """
    now = windows.num_past
    states = windows.recorded_states[:, now : now + num_steps + 1].double().cpu().numpy()
    moved = np.diff(states, axis=1)  # (windows, num_steps, state_dim)
    said, spread = _said_moves(windows, num_steps)
    columns = {name: column_of(name, windows.state_names) for name in said}
    if None in columns.values():
        return np.ones(len(moved), dtype=bool)
    is_free = np.ones(len(moved), dtype=bool)
    for name, column in columns.items():
        missing = np.abs(moved[..., column] - said[name]).max(1)
        is_free &= missing <= MOVED_AS_SAID * spread[name]
    others = [i for i in range(len(windows.state_names)) if i not in columns.values()]
    std = windows.recorded_states.double().flatten(0, 1).std(0, correction=0).cpu().numpy()
    return is_free & (np.abs(moved[..., others]) <= HELD_STILL * std[others]).all((1, 2))


def column_of(action: str, state_names: tuple[str, ...]) -> int | None:
    """Returns the state column that a displacement such as dx is of; None if none or several."""
    wanted = action.removeprefix("d")
    if wanted in state_names:
        return state_names.index(wanted)
    found = [i for i, name in enumerate(state_names) if name.endswith(f"_{wanted}")]
    own = [i for i in found if state_names[i].startswith("agent_")] or found
    return own[0] if len(own) == 1 else None


def is_undone_by_minus(actions: ActionColumns | None) -> bool:
    """True if every action is a displacement, by its name and its symmetric range."""
    if actions is None:
        return False
    is_symmetric = np.allclose(actions.low, [-high for high in actions.high])
    return is_symmetric and all(_DISPLACEMENT.fullmatch(name) for name in actions.names)


def undone(actions: ActionColumns | None, there: Tensor) -> Tensor:
    """Returns the inverses of actions (windows, steps, action_dim), the last one first.

    Where an action holds several recorded ones, these are reversed, too.
    """
    joined = actions.num_steps if actions is not None and actions.mode == "concatenate" else 1
    parts = there.unflatten(-1, (joined, -1))  # (windows, steps, joined, recorded action_dim)
    return -parts.flip(1, 2).flatten(-2)


def _said_moves(
    windows: HeldOutWindows, num_steps: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns by name what each action says to move (windows, num_steps), and its spread.

    The parts of joined actions (dx@0, dx@1, ...) add up.
    """
    actions = windows.actions.double().cpu().numpy()
    sums: dict[str, np.ndarray] = {}
    for index, name in enumerate(windows.action_names):
        base = name.partition("@")[0]
        sums[base] = sums.get(base, 0.0) + actions[..., index]
    now = windows.num_past
    said = {name: values[:, now : now + num_steps] for name, values in sums.items()}
    return said, {name: float(values.std()) for name, values in sums.items()}


def _result(
    num_steps: int, num_windows: int, outward: np.ndarray, returned: np.ndarray, seed: int
) -> RoundTrip:
    ratio = ratio_interval(returned, outward, seed=seed)
    told = (
        f"{num_steps} steps there and back end {ratio} of the way out from the start, in "
        f"{num_windows} windows"
    )
    if ratio.high < MAX_RATIO:
        verdict = Verdict("pass", told)
    else:
        verdict = Verdict("fail", f"{told}: the interval must lie below {MAX_RATIO}")
    return RoundTrip(
        num_steps=num_steps,
        num_windows=num_windows,
        outward=mean_interval(outward, seed=seed),
        returned=mean_interval(returned, seed=seed),
        ratio=ratio,
        verdict=verdict,
    )
